"""Cost of a layer, and of its gating, against the number of experts, as a figure."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from outrageous.results.drawing import Drawing, house_style, render
from outrageous.results.layer_tables import cost_curves, exponent

FLAT, HIERARCHICAL = "#0072B2", "#009E73"
STYLES = {
    "flat layer": (FLAT, "-", "o"),
    "hierarchical layer": (HIERARCHICAL, "-", "^"),
    "flat gating": (FLAT, "--", "o"),
    "hierarchical gating": (HIERARCHICAL, "--", "^"),
}


def cost_figure(content: dict[str, Any]) -> Drawing:
    """Of the saved content of `bench cost`: one line for each kind of layer, both axes logarithmic."""
    figures = content["figures"]
    with house_style():
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for kind, curve in cost_curves(figures).items():
            colour, line, marker = STYLES[kind]
            label = f"{kind}: ∝ N^{exponent(curve):.2f}"
            milliseconds = [1000 * seconds for seconds in curve.values()]
            axes.plot(list(curve), milliseconds, line, color=colour, marker=marker, markersize=4, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(figures["num_experts"], [str(number) for number in figures["num_experts"]])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("experts N")
        axes.set_ylabel("forward + backward, ms")
        axes.set_title(f"Cost of one layer at {figures['num_tokens']} tokens, {figures['k']} experts a token")
        axes.legend()
        return render(figure, content["command"])
