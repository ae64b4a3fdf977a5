"""The paper's claims about table 7, checked on the records of one scale."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outrageous.results.published import Table7Row
from outrageous.results.records import Record
from outrageous.results.summary import RowSummary, summarise
from outrageous.results.tables import GENERATED, perplexity

HOLDS, FAILS, NOT_RUN = "holds", "does not hold", "not run"
CLOSE = ("4xlstm_512", "moe_1_wide", "moe_1_deep", "moe_4")
BELOW = (("moe_32", "moe_4"), ("moe_256", "moe_4"), ("moe_256", "moe_32"))


@dataclass(frozen=True)
class Claim:
    """A claim, whether it holds (`holds`, `does not hold` or `not run`), and the figures it rests on."""

    statement: str
    verdict: str
    figures: str


def check_claims(published: list[Table7Row], records: Iterable[Record], scale: str) -> list[Claim]:
    """All claims on the records of `scale`. Raises UserError when the seeds of a row have different configs."""
    summaries = summarise(records, scale)
    return [_close(published, summaries), *(_below(summaries, lower, upper) for lower, upper in BELOW)]


def _close(published: list[Table7Row], summaries: dict[str, RowSummary]) -> Claim:
    printed = {row.model: row.test_perplexity_10_epochs for row in published}
    tolerance = _range([value for name in CLOSE if (value := printed[name]) is not None])
    statement = (
        f"{', '.join(CLOSE)}, all of equal ops/timestep, lie close together: (highest - lowest mean) / moe_4's mean is "
        f"at most {tolerance:.1%}, the paper's own range over these rows"
    )
    if missing := [name for name in CLOSE if name not in summaries]:
        return Claim(statement, NOT_RUN, f"no records of {', '.join(missing)}")
    ours = _range([summaries[name].perplexity for name in CLOSE])
    figures = f"range {ours:.1%}: " + ", ".join(_figure(summaries[name]) for name in CLOSE)
    if apart := summaries.get("lstm_2048_512"):
        ratio = apart.ops_per_timestep / summaries["moe_4"].ops_per_timestep
        figures += f" (apart, with {ratio:.2f} times moe_4's ops/timestep: {_figure(apart)})"
    return Claim(statement, HOLDS if ours <= tolerance else FAILS, figures)


def _range(perplexities: Sequence[float]) -> float:
    """(highest - lowest) / the last, which is moe_4's."""
    return (max(perplexities) - min(perplexities)) / perplexities[-1]


def _below(summaries: dict[str, RowSummary], lower: str, upper: str) -> Claim:
    statement = (
        f"{lower} lies below {upper} by more than the spread between seeds: the difference of the means is more than "
        "twice the larger sample standard deviation"
    )
    if missing := [name for name in (lower, upper) if name not in summaries]:
        return Claim(statement, NOT_RUN, f"no records of {', '.join(missing)}")
    low, high = summaries[lower], summaries[upper]
    figures = f"{_figure(low)}, {_figure(high)}"
    if low.spread is None or high.spread is None:
        return Claim(statement, NOT_RUN, f"{figures}: a spread needs two seeds of each")
    difference, bound = high.perplexity - low.perplexity, 2 * max(low.spread, high.spread)
    ratio = low.ops_per_timestep / high.ops_per_timestep
    figures = f"difference {difference:.2f} against {bound:.2f}: {figures}, at {ratio:.2f} times the ops/timestep"
    return Claim(statement, HOLDS if difference > bound else FAILS, figures)


def _figure(summary: RowSummary) -> str:
    return f"{summary.row} {perplexity(summary)}"


def to_markdown(claims: list[Claim], scale: str, command: str) -> str:
    """The verdicts as Markdown, the generating command at its head."""
    lines = [f"<!-- {GENERATED.format(command=command)} -->", "", f"# The paper's claims, checked at {scale} scale", ""]
    lines += ["| claim | verdict | figures |", "|---|---|---|"]
    lines += [f"| {claim.statement} | **{claim.verdict}** | {claim.figures} |" for claim in claims]
    lines += ["", "Figures: mean ± sample standard deviation of test perplexity (number of seeds)."]
    return "\n".join(lines) + "\n"
