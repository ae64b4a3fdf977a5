"""The seeds of one row as means and spreads."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outrageous.errors import UserError
from outrageous.results.records import Record

DEV_AFTER_A_TENTH = "dev_perplexity_after_a_tenth"


@dataclass(frozen=True)
class Estimate:
    """A figure over `num_seeds` seeds. spread: sample standard deviation (n - 1 below the line); None for one seed."""

    mean: float
    spread: float | None
    num_seeds: int

    def __str__(self) -> str:
        """As in `74.21 ± 0.31 (3)`; a single seed has no spread."""
        spread = "" if self.spread is None else f" ± {self.spread:.2f}"
        return f"{self.mean:.2f}{spread} ({self.num_seeds})"


@dataclass(frozen=True)
class RowSummary:
    """The seeds of one row at one scale.

    metrics: what every seed measured, and `dev_perplexity_after_a_tenth` where every seed's curve has a point there.
    by_seed: test perplexity.
    """

    row: str
    by_seed: dict[int, float]
    metrics: dict[str, Estimate]
    parameters: int
    ops_per_timestep: int
    total_parameters: int

    @property
    def perplexity(self) -> Estimate:
        """Test perplexity."""
        return self.metrics["test_perplexity"]


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
    measured = [record.metrics | _after_a_tenth(record) for record in seeds]
    in_all = [name for name in measured[0] if all(name in metrics for metrics in measured)]
    return RowSummary(
        row=row,
        by_seed={record.seed: record.metrics["test_perplexity"] for record in seeds},
        metrics={name: estimate([metrics[name] for metrics in measured]) for name in in_all},
        parameters=seeds[0].parameters,
        ops_per_timestep=seeds[0].ops_per_timestep,
        total_parameters=seeds[0].total_parameters,
    )


def estimate(values: Sequence[float]) -> Estimate:
    """Of one value a seed."""
    return Estimate(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def _after_a_tenth(record: Record) -> dict[str, float]:
    """The dev perplexity after a tenth of the words trained, give or take 2% of that tenth, if it was measured."""
    tenth = record.words_trained / 10
    there = [point.dev_perplexity for point in record.curve if abs(point.words - tenth) <= 0.02 * tenth]
    return {DEV_AFTER_A_TENTH: there[-1]} if there else {}
