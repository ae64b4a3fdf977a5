"""The paper's claims about tables 2, 3, 6 and 7, checked on the records of one scale."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from outrageous.results.paper_tables import PERPLEXITY
from outrageous.results.published import read_cells
from outrageous.results.records import Record
from outrageous.results.summary import RowSummary, summarise
from outrageous.results.tables import GENERATED

HOLDS, FAILS, NOT_RUN = "holds", "does not hold", "not run"
CLOSE = ("4xlstm_512", "moe_1_wide", "moe_1_deep", "moe_4")
BELOW = (
    ("moe_32", "moe_4"),
    ("moe_256", "moe_4"),
    ("moe_256", "moe_32"),
    ("moe_32", "4xlstm_512"),
    ("moe_256", "4xlstm_512"),
    ("moe_32", "lstm_2048_512"),
    ("moe_256", "lstm_2048_512"),
)
TRANSLATION_BELOW = (
    ("table_2", "mt_moe_32_en_fr", "mt_moe_0_en_fr"),
    ("table_2", "mt_moe_512_h_en_fr", "mt_moe_0_en_fr"),
    ("table_3", "mt_moe_32_en_de", "mt_moe_0_en_de"),
    ("table_3", "mt_moe_512_h_en_de", "mt_moe_0_en_de"),
)
UNBALANCED = "balance_0_0"
BALANCED = ("balance_0.2_0", "balance_0_0.2", "balance_0.1_0.1", "balance_0.01_0.01", "balance_1_1")
MAX_OVER_MEAN = "max_over_mean_load"
CLEARLY_BELOW = (
    "by more than the spread between seeds: the difference of the means is more than twice the larger sample standard "
    "deviation"
)

BATCHWISE = "test_perplexity_batchwise"
MOST_BY_THRESHOLDS = 0.03

Summaries = dict[str, RowSummary]


@dataclass(frozen=True)
class Claim:
    """A claim, whether it holds (`holds`, `does not hold` or `not run`), and the figures it rests on."""

    table: str
    statement: str
    verdict: str
    figures: str


def check_claims(published: Path, records: Iterable[Record], scale: str) -> list[Claim]:
    """All claims on the records of `scale`, from the folder of the published tables.

    Raises UserError when a published table is damaged or the seeds of a row have different configs.
    """
    summaries = summarise(records, scale)
    return [
        _close(published, summaries),
        *(_below(summaries, "table_7", *rows) for rows in BELOW),
        *_collapse(published, summaries),
        _balance_helps(summaries),
        *(_below(summaries, *rows) for rows in TRANSLATION_BELOW),
        *(_thresholds(summaries, table, row) for table, row, _ in TRANSLATION_BELOW),
    ]


def _thresholds(summaries: Summaries, table: str, row: str) -> Claim:
    """Not a claim of the paper's, which needs it all the same: it trains with one mask and tests with the other."""
    statement = (
        f"{row}: strictly balanced gates that choose by thresholds (Eq. 19) differ in test perplexity by less than "
        f"{MOST_BY_THRESHOLDS:.0%} from the same that choose by batch, as in training (Eq. 18)"
    )
    if missing := _missing(summaries, (row,), BATCHWISE):
        return Claim(table, statement, NOT_RUN, missing)
    by_batch = summaries[row].metrics[BATCHWISE]
    difference = summaries[row].perplexity.mean / by_batch.mean - 1
    figures = f"difference {difference:+.1%}: by thresholds {summaries[row].perplexity}, by batch {by_batch}"
    return Claim(table, statement, HOLDS if abs(difference) < MOST_BY_THRESHOLDS else FAILS, figures)


def _close(published: Path, summaries: Summaries) -> Claim:
    perplexity = PERPLEXITY.printed
    printed = {row["model"]: row[perplexity] for row in read_cells(published / "table_7.csv", ["model", perplexity])}
    tolerance = _range([float(printed[name]) for name in CLOSE])
    statement = (
        f"{', '.join(CLOSE)}, all of equal ops/timestep, lie close together: (highest - lowest mean) / moe_4's mean is "
        f"at most {tolerance:.1%}, the paper's own range over these rows"
    )
    if missing := _missing(summaries, CLOSE):
        return Claim("table_7", statement, NOT_RUN, missing)
    ours = _range([summaries[name].perplexity.mean for name in CLOSE])
    figures = f"range {ours:.1%}: " + ", ".join(_figure(summaries[name]) for name in CLOSE)
    if apart := summaries.get("lstm_2048_512"):
        ratio = apart.ops_per_timestep / summaries["moe_4"].ops_per_timestep
        figures += f" (apart, with {ratio:.2f} times moe_4's ops/timestep: {_figure(apart)})"
    return Claim("table_7", statement, HOLDS if ours <= tolerance else FAILS, figures)


def _range(perplexities: Sequence[float]) -> float:
    """(highest - lowest) / the last, which is moe_4's."""
    return (max(perplexities) - min(perplexities)) / perplexities[-1]


def _below(summaries: Summaries, table: str, lower: str, upper: str) -> Claim:
    statement = f"{lower} lies below {upper} {CLEARLY_BELOW}"
    if missing := _missing(summaries, (lower, upper)):
        return Claim(table, statement, NOT_RUN, missing)
    low, high = summaries[lower], summaries[upper]
    compared = _difference(low, high)
    if compared is None:
        figures = f"{_figure(low)}, {_figure(high)}: a spread needs two seeds of each"
        return Claim(table, statement, NOT_RUN, figures)
    difference, bound = compared
    ratio = low.ops_per_timestep / high.ops_per_timestep
    figures = (
        f"difference {difference:.2f} against {bound:.2f}: {_figure(low)}, {_figure(high)}, at {ratio:.2f} times the "
        f"ops/timestep; {_seed_by_seed(low, high)}"
    )
    return Claim(table, statement, HOLDS if difference > bound else FAILS, figures)


def _seed_by_seed(low: RowSummary, high: RowSummary) -> str:
    """The differences of runs with the same seed, which draw the same batches. They do not decide."""
    seeds = sorted(low.by_seed.keys() & high.by_seed.keys())
    differences = [f"{high.by_seed[seed] - low.by_seed[seed]:.2f}" for seed in seeds]
    return f"seed by seed {', '.join(differences) or 'none'}"


def _difference(low: RowSummary, high: RowSummary) -> tuple[float, float] | None:
    """Of the mean perplexities, and twice the larger standard deviation; None where there is one seed only."""
    a, b = low.perplexity, high.perplexity
    if a.spread is None or b.spread is None:
        return None
    return b.mean - a.mean, 2 * max(a.spread, b.spread)


def _collapse(published: Path, summaries: Summaries) -> list[Claim]:
    """Without a loss the load collapses, with any it does not. The bound between the two is drawn from print."""
    rows = read_cells(published / "table_6.csv", [MAX_OVER_MEAN])
    without, *balanced = [float(row[MAX_OVER_MEAN]) for row in rows]
    bound = math.sqrt(without * max(balanced))
    extremes = f"the printed {without:.2f} without and {max(balanced):.2f}, the most with a loss"
    where = f"{bound:.2f}, the geometric mean of {extremes}"
    collapses = f"without a balancing loss the load collapses onto few experts: its max/mean is above {where}"
    does_not = f"with any of the balancing losses it does not: the max/mean load of each row is below {where}"
    return [
        _load(summaries, (UNBALANCED,), collapses, lambda load: load > bound),
        _load(summaries, BALANCED, does_not, lambda load: load < bound),
    ]


def _load(summaries: Summaries, rows: tuple[str, ...], statement: str, holds: Callable[[float], bool]) -> Claim:
    """That the mean max/mean load of each row is as it should be."""
    if missing := _missing(summaries, rows, MAX_OVER_MEAN):
        return Claim("table_6", statement, NOT_RUN, missing)
    loads = {row: summaries[row].metrics[MAX_OVER_MEAN] for row in rows}
    figures = "max/mean load: " + ", ".join(f"{row} {load}" for row, load in loads.items())
    return Claim("table_6", statement, HOLDS if all(holds(load.mean) for load in loads.values()) else FAILS, figures)


def _balance_helps(summaries: Summaries) -> Claim:
    statement = f"every row of table 6 with a balancing loss lies below the row without {CLEARLY_BELOW}"
    rows = (UNBALANCED, *BALANCED)
    if missing := _missing(summaries, rows):
        return Claim("table_6", statement, NOT_RUN, missing)
    figures = ", ".join(_figure(summaries[row]) for row in rows)
    compared = [_difference(summaries[row], summaries[UNBALANCED]) for row in BALANCED]
    known = [pair for pair in compared if pair is not None]
    if len(known) < len(compared):
        return Claim("table_6", statement, NOT_RUN, f"{figures}: a spread needs two seeds of each")
    holds = all(difference > bound for difference, bound in known)
    return Claim("table_6", statement, HOLDS if holds else FAILS, figures)


def _missing(summaries: Summaries, rows: Iterable[str], metric: str = "test_perplexity") -> str:
    """What to say of rows without records of this metric; empty where there are none such."""
    missing = [row for row in rows if row not in summaries or metric not in summaries[row].metrics]
    return f"no records of {', '.join(missing)}" if missing else ""


def _figure(summary: RowSummary) -> str:
    return f"{summary.row} {summary.perplexity}"


def to_markdown(claims: list[Claim], scale: str, command: str) -> str:
    """The verdicts as Markdown, the generating command at its head."""
    lines = [f"<!-- {GENERATED.format(command=command)} -->", "", f"# The paper's claims, checked at {scale} scale", ""]
    lines += ["| table | claim | verdict | figures |", "|---|---|---|---|"]
    lines += [
        f"| {claim.table.removeprefix('table_')} | {claim.statement} | **{claim.verdict}** | {claim.figures} |"
        for claim in claims
    ]
    lines += [
        "",
        "Figures: mean ± sample standard deviation (number of seeds); of test perplexity, if nothing else is said.",
    ]
    return "\n".join(lines) + "\n"
