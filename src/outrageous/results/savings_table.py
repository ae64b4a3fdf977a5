"""What memory savings save and cost as Markdown, from the figures that `outrageous-bench memory` saves."""

from typing import Any

from outrageous.results.layer_tables import markdown_table, origin

NAMES = {
    "adam": "Adam",
    "factored_adam": "factored Adam",
    "gradient_free": "factored Adam, without forming gradients",
}


def savings_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench memory` -> a row for each optimizer, without and with recomputation."""
    figures = content["figures"]
    first = figures["rows"][0]["seconds"]
    rows = [
        (
            NAMES[row["optimizer"]],
            "yes" if row["recompute"] else "no",
            *(f"{row[name]:.2f}" for name in ("weights", "gradients", "state", "peak")),
            f"{1000 * row['seconds']:,.0f}",
            f"{row['seconds'] / first:.2f}",
        )
        for row in figures["rows"]
    ]
    headings = [
        "experts' optimizer",
        "recomputation",
        "weights",
        "gradients",
        "state",
        "peak",
        "step, ms",
        "step / the first row's",
    ]
    setting = (
        f"One layer, N = {figures['num_experts']}, T = {figures['num_tokens']}, k = {figures['k']}, "
        f"d = {figures['d_model']}, H = {figures['d_hidden']}, in float32; all keep their memory between steps. "
        "Bytes for each expert parameter: weights, gradients and the optimizer's state counted after a step; peak: the "
        "most by which the process grew, activations and the rest of the layer included, measured. Step: forward, "
        f"backward and optimizer, median of {figures['num_steps']} steps in each of {figures['num_rounds']} processes, "
        "which took turns."
    )
    return (
        "\n\n".join(["# Memory savings of appendix D", origin(content), setting, markdown_table(headings, rows)]) + "\n"
    )
