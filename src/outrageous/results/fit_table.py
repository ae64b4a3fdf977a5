"""Whether models fit a GPU as Markdown, from the figures that `outrageous-bench fit` saves."""

from typing import Any

from outrageous.results.layer_tables import markdown_table, origin


def fit_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench fit` -> a row for each model."""
    rows = []
    for row in content["figures"]["rows"]:
        fits = row["peak"] is not None
        measured = (
            f"{row['peak'] / 1e9:,.2f}" if fits else "does not fit",
            f"{row['peak'] / row['predicted']:.2f}" if fits else "",
            f"{1000 * row['seconds']:,.0f}" if fits else "",
        )
        predicted = f"{row['predicted'] / 1e9:,.2f}"
        rows.append((row["experiment"], row["precision"], f"{row['words_per_batch']:,}", predicted, *measured))
    headings = ["model", "precision", "words a batch", "predicted peak, GB", "measured, GB", "measured / predicted"]
    headings.append("step, ms")
    where = (
        "The peak of PyTorch's allocator, in some steps on random words without padding, each model in a process of "
        "its own. Where there was no GPU: what the process grew by, doing what a GPU would do on a CPU, but for LSTMs, "
        "which take the predicted memory and compute nothing, so that the times mean nothing. Which settings each "
        "model had: `src/outrageous/commands/one_gpu.py`."
    )
    parts = ["# Steps within a GPU's memory", origin(content), where, markdown_table(headings, rows)]
    return "\n\n".join(parts) + "\n"
