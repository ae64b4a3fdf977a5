"""The paper's printed numbers, as committed in `results/published/table_N.csv`."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from outrageous.errors import UserError
from outrageous.results.files import read_text

Cell = float | str | None


@dataclass(frozen=True)
class Table7Row:
    """A row of table 7 (language models, One Billion Word). None where the paper prints nothing."""

    model: str
    test_perplexity_10_epochs: float | None
    test_perplexity_final: float | None
    ops_per_timestep_millions: float
    params_excluding_embedding_softmax_millions: float | None
    total_params_billions: float
    drop_prob: float | None
    tflops_per_gpu: float | None


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


def read_published(path: Path) -> list[dict[str, Cell]]:
    """The same with a number where the cell reads as one, None where it is empty, else its text. Raises alike."""
    return [{name: _cell(text) for name, text in row.items()} for row in read_cells(path)]


def _cell(text: str) -> Cell:
    if text == "":
        return None
    try:
        return float(text)
    except ValueError:
        return text


def table_7(folder: Path) -> list[Table7Row]:
    """Table 7 from `folder/table_7.csv`, in the paper's order."""
    path = folder / "table_7.csv"
    try:
        return [Table7Row(**row) for row in read_published(path)]  # type: ignore[arg-type]
    except TypeError as error:
        raise UserError(f"{path} does not have table 7's columns; restore the file") from error


def has_equal_ops(ops_per_timestep_millions: float) -> bool:
    """Whether a model belongs to figure 2, left: about 8 million ops/timestep (8.4 to 8.9; lstm_2048_512 has 9.4)."""
    return 8.0 <= ops_per_timestep_millions < 9.0


def equal_ops_rows(table: list[Table7Row]) -> list[str]:
    """The models of figure 2, left."""
    return [row.model for row in table if has_equal_ops(row.ops_per_timestep_millions)]
