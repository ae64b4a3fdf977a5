"""What the fed back context costs in training, as Markdown, from the figures that `outrageous-bench feedback` saves."""

from typing import Any

from outrageous.results.layer_tables import markdown_table, origin


def feedback_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench feedback` -> milliseconds of a pass and of a step, a row for each part and length."""
    figures = content["figures"]
    whole = {speed["length"]: speed["seconds"] for speed in figures["speeds"] if speed["name"] == figures["whole"]}
    rows = [
        (
            speed["name"],
            str(speed["length"]),
            f"{1000 * speed['seconds']:,.1f}",
            f"{1000 * speed['seconds_per_step']:.3f}",
            f"{speed['seconds'] / whole[speed['length']]:.0%}",
        )
        for speed in sorted(figures["speeds"], key=lambda speed: speed["length"])
    ]
    headings = ["", "words of a target", "forward + backward, ms", "for each step, ms", "share of the whole"]
    setting = (
        f"{figures['experiment']} at {figures['scale']} scale in training, {figures['num_pairs']} pairs at once, "
        f"sources of {figures['source_length']} words; medians of {figures['num_rounds']} rounds, in which all take "
        "turns. The first LSTM of the decoder takes as further input the context that its own previous output asked "
        "for: it has to go word by word, where an LSTM whose inputs are known is one call. A step is one word of all "
        "pairs."
    )
    parts = ["# The context fed back, in training", origin(content), setting, markdown_table(headings, rows)]
    return "\n\n".join(parts) + "\n"
