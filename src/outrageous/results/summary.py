"""The seeds of one row as a mean and a spread."""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from outrageous.errors import UserError
from outrageous.results.records import Record


@dataclass(frozen=True)
class RowSummary:
    """Test perplexity over the seeds of one row at one scale.

    spread: sample standard deviation (n - 1 below the line); None for a single seed.
    """

    row: str
    perplexity: float
    spread: float | None
    num_seeds: int
    parameters: int
    ops_per_timestep: int


def by_row(records: Iterable[Record], scale: str) -> dict[str, list[Record]]:
    """The records of one scale by row of the table, seeds ascending.

    Raises UserError when the seeds of a row were trained with different configs: they are not one row then.
    """
    rows: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda r: r.seed):
        if record.scale == scale and record.row is not None:
            rows[record.row].append(record)
    for row, seeds in rows.items():
        if len({(record.experiment, record.config_hash) for record in seeds}) > 1:
            found = ", ".join(f"seed {r.seed}: {r.experiment} {r.config_hash}" for r in seeds)
            raise UserError(f"the seeds of {row} at scale {scale} have different configs ({found}); keep one config's")
    return dict(rows)


def summarise(records: Iterable[Record], scale: str) -> dict[str, RowSummary]:
    """One summary a row. Raises as `by_row` does."""
    return {row: _summary(row, seeds) for row, seeds in by_row(records, scale).items()}


def _summary(row: str, seeds: list[Record]) -> RowSummary:
    perplexities = [record.metrics["test_perplexity"] for record in seeds]
    return RowSummary(
        row=row,
        perplexity=statistics.fmean(perplexities),
        spread=statistics.stdev(perplexities) if len(seeds) > 1 else None,
        num_seeds=len(seeds),
        parameters=seeds[0].parameters,
        ops_per_timestep=seeds[0].ops_per_timestep,
    )
