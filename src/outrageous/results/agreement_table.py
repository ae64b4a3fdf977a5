"""Whether a GPU trains as a CPU does as Markdown, from the figures that `outrageous-bench agreement` saves."""

from typing import Any

from outrageous.results.layer_tables import markdown_table, origin


def agreement_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench agreement` -> a row for each way to train."""
    figures = content["figures"]
    rows = [
        (
            row["way"],
            row["precision"],
            *(f"{perplexity:.3f}" for perplexity in row["dev_perplexities"]),
            f"{row['words_per_second']:,.0f}",
        )
        for row in figures["rows"]
    ]
    seeds = [f"seed {seed}" for seed in figures["rows"][0]["seeds"]]
    within = "within" if abs(figures["difference"]) <= figures["spread"] else "beyond"
    spread = f"{within} the spread between seeds on the CPU, {figures['spread']:.3f}"
    if len(seeds) == 1:
        spread = "and one seed has no spread to set that against"
    return "\n\n".join(
        [
            "# Training on a GPU and on a CPU",
            origin(content),
            f"{figures['experiment']}, {figures['scale']} scale, {figures['num_steps']} steps: dev perplexity.",
            markdown_table(["way", "precision", *seeds, "words/s"], rows),
            f"The means differ by {figures['difference']:+.3f}, {spread}.\n",
        ]
    )
