"""How near experts' products come to a device's rate as Markdown, from the figures that `outrageous-bench products`
saves."""

from typing import Any

from outrageous.results.layer_tables import markdown_table, origin


def products_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench products` -> a row for each size and precision."""
    figures = content["figures"]
    rows = []
    for row in figures["rows"]:
        size = (f"{row['num_experts']:,}", f"{row['rows_per_expert']:,}", f"{row['d_model']} × {row['d_hidden']}")
        measured = (row.get("reason", ""), "", "", "")
        if "seconds" in row:
            rates = (f"{row['tflops']:,.4g}", f"{row['dense_tflops']:,.4g}", f"{row['share_of_dense']:.2f}")
            measured = (f"{1000 * row['seconds']:,.2f}", *rates)
        rows.append((*size, row["precision"], *measured))
    headings = ["experts", "rows of each", "sizes", "precision", "forward + backward, ms", "TFLOP/s"]
    headings += ["square product, TFLOP/s", "share of it"]
    where = (
        "A bank of experts alone, without gate and without rows going to and fro, on rows that are dealt out at "
        f"random, so many to an expert on average: medians of {figures['num_rounds']} rounds of "
        f"{figures['num_passes']} passes, each round after a product of large square matrices in the dtype of "
        "computation. All that a pass takes is counted: ReLUs, weights' gradients, and, where weights are float32 and "
        "products are not, their rounding."
    )
    parts = ["# Experts' products", origin(content), where, markdown_table(headings, rows)]
    return "\n\n".join(parts) + "\n"
