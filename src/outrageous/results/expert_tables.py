"""Experts looked at, as text, as a page and as rows of a table (table 9)."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from outrageous.results.specialisation import Context, Specialisation

COLUMNS = ("expert", "words", "gate", "before", "word", "after")
Row = tuple[int, int, float, str, str, str]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px sans-serif; margin: 2em; }}
table {{ border-collapse: collapse; margin: 0 0 1.5em; }}
td {{ padding: 1px 6px; white-space: nowrap; }}
td:nth-child(1) {{ color: #777; }}
td:nth-child(2) {{ text-align: right; }}
td:nth-child(3) {{ font-weight: bold; background: #eef4fa; text-align: center; }}
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""


@dataclass(frozen=True)
class ExpertUse:
    """What one MoE does with a text.

    Attributes:
        moe: where it is: encoder, decoder, layers.1.
        num_words: that it was given: words or wordpieces.
        num_experts: N.
        specialisation: what experts tell of the word, each assignment weighted by its gate.
        assignments: [N] words that each expert was given.
        contexts: expert -> places of its largest gates, largest first; without experts that were given nothing.
    """

    moe: str
    num_words: int
    num_experts: int
    specialisation: Specialisation
    assignments: list[int]
    contexts: dict[int, list[Context]]

    def statistic(self) -> str:
        """How specialised its experts are, in a sentence."""
        found = self.specialisation
        return (
            f"{self.moe}: {self.num_experts} experts, {len(self.contexts)} of them used, for {self.num_words:,} words. "
            f"An expert tells {found.bits:.3f} bits of its word, of {found.token_entropy:.3f}; with the same experts "
            f"dealt out at random {found.shuffled_mean:.3f} ± {found.shuffled_std:.3f}: "
            f"{found.above_chance:.3f} bits above chance."
        )


def to_text(uses: Sequence[ExpertUse], title: str) -> str:
    """For reading: of each expert its words, the largest gates first."""
    lines = [title, ""]
    for use in uses:
        lines += [use.statistic(), ""]
        for expert, contexts in use.contexts.items():
            width = max(len(context.before) for context in contexts)
            lines.append(f"{use.moe}, expert {expert}: {use.assignments[expert]:,} words")
            lines += [f"  {one.gate:.3f}  {one.before:>{width}} [{one.token}] {one.after}" for one in contexts]
            lines.append("")
    return "\n".join(lines)


def to_html(uses: Sequence[ExpertUse], title: str) -> str:
    """One page that needs no other file."""
    parts: list[str] = []
    for use in uses:
        parts += [f"<h2>{html.escape(use.moe)}</h2>", f"<p>{html.escape(use.statistic())}</p>"]
        for expert, contexts in use.contexts.items():
            parts += [f"<h3>Expert {expert}: {use.assignments[expert]:,} words</h3>", "<table>"]
            for one in contexts:
                texts = "".join(f"<td>{html.escape(text)}</td>" for text in (one.before, one.token, one.after))
                parts.append(f"<tr><td>{one.gate:.3f}</td>{texts}</tr>")
            parts.append("</table>")
    return _PAGE.format(title=html.escape(title), body="\n".join(parts))


def to_rows(use: ExpertUse) -> list[Row]:
    """One row for each context, under COLUMNS."""
    return [
        (expert, use.assignments[expert], one.gate, one.before, one.token, one.after)
        for expert, contexts in use.contexts.items()
        for one in contexts
    ]


def to_metrics(uses: Sequence[ExpertUse]) -> dict[str, float]:
    """test_expert_bits_<moe> above chance, and the same of the shuffled control alone."""
    metrics = {}
    for use in uses:
        metrics[f"test_expert_bits_above_chance_{use.moe}"] = use.specialisation.above_chance
        metrics[f"test_expert_bits_by_chance_{use.moe}"] = use.specialisation.shuffled_mean
    return metrics
