"""Whether models fit a GPU as Markdown, from the figures that `outrageous-bench fit` saves."""

from typing import Any

from outrageous.results.layer_tables import markdown_table, origin


def fit_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench fit` -> a row for each model."""
    rows = []
    for row in content["figures"]["rows"]:
        measured = (row.get("reason", ""), "", "", "")
        if "peak" in row:
            reserved = f"{row['reserved'] / 1e9:,.2f}" if row["reserved"] else "-"
            share, milliseconds = row["peak"] / row["predicted"], 1000 * row["seconds"]
            measured = (f"{row['peak'] / 1e9:,.2f}", f"{share:.2f}", reserved, f"{milliseconds:,.0f}")
        predicted = f"{row['predicted'] / 1e9:,.2f}"
        rows.append((row["experiment"], row["precision"], f"{row['words_per_batch']:,}", predicted, *measured))
    headings = ["model", "precision", "words a batch", "predicted peak, GB", "measured, GB", "measured / predicted"]
    headings += ["reserved, GB", "step, ms"]
    where = (
        "The peak of PyTorch's allocator, in some steps on random words without padding, each model in a process of "
        "its own; reserved: what the allocator had taken of the GPU's memory for that, fragments included. Where there "
        "was no GPU: what the process grew by, doing what a GPU would do on a CPU, but for LSTMs, which take the "
        "predicted memory and compute nothing, so that the times mean nothing. Which settings each model had: "
        "`src/outrageous/commands/one_gpu.py`."
    )
    parts = ["# Steps within a GPU's memory", origin(content), where, markdown_table(headings, rows)]
    return "\n\n".join(parts) + "\n"
