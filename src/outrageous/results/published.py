"""The paper's printed numbers, as committed in `results/published/table_N.csv`."""

import csv
from collections.abc import Iterable
from pathlib import Path

from outrageous.errors import UserError
from outrageous.results.files import read_text


def read_cells(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of a published table, each cell as it is printed, empty where nothing is.

    Raises UserError when the file is missing, not UTF-8, lacks one of `columns`, or has a row of another length than
    its header.
    """
    header, *lines = list(csv.reader(read_text(path).splitlines())) or [[]]
    if not lines:
        raise UserError(f"{path} has no rows; restore the file")
    if lacking := [column for column in columns if column not in header]:
        raise UserError(f"{path} has no column {', '.join(lacking)}; restore the file")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise UserError(f"{path}, line {number}: {len(line)} cells under {len(header)} headings; restore the file")
    return [dict(zip(header, line, strict=True)) for line in lines]


def has_equal_ops(ops_per_timestep_millions: float) -> bool:
    """Whether a model belongs to figure 2, left: about 8 million ops/timestep (8.4 to 8.9; lstm_2048_512 has 9.4)."""
    return 8.0 <= ops_per_timestep_millions < 9.0
