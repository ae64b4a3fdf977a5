"""Figure 2 (left) and the learning curves, as SVG and PNG that depend on nothing but the records."""

import io
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from outrageous.results.labels import Label, place
from outrageous.results.published import Table7Row, equal_ops_rows
from outrageous.results.records import Record
from outrageous.results.summary import RowSummary, by_row, summarise

STYLE = {
    "svg.hashsalt": "outrageous",  # ids in the SVG that are the same every time
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "figure.dpi": 150,
}
LABEL_SIZE = 8.0
TITLE = "Models of about equal ops/timestep (bars: sample standard deviation over seeds; the panels' axes differ)"
# Okabe and Ito's colours, told apart with every common colour blindness; their yellow is too pale for lines.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
FAMILIES = {"dense": ("#D55E00", "s"), "flat mixture": ("#0072B2", "o"), "hierarchical mixture": ("#009E73", "^")}


@dataclass(frozen=True)
class Drawing:
    """A figure in both formats; the SVG is the same byte for byte for the same records."""

    svg: bytes
    png: bytes


@dataclass(frozen=True)
class Point:
    """A model of figure 2: parameters without embedding and softmax, test perplexity and its spread over seeds."""

    row: str
    parameters: float
    perplexity: float
    spread: float | None


@dataclass(frozen=True)
class Panel:
    """One set of axes: points of one origin and one scale."""

    title: str
    points: list[Point]


def printed_panel(published: list[Table7Row]) -> Panel:
    """The paper's points of figure 2, left."""
    names = equal_ops_rows(published)
    points = []
    for row in published:
        millions, perplexity = row.params_excluding_embedding_softmax_millions, row.test_perplexity_10_epochs
        if row.model in names and millions is not None and perplexity is not None:
            points.append(Point(row.model, millions * 1e6, perplexity, None))
    return Panel("printed in the paper\n(paper scale, One Billion Word)", points)


def our_panel(heading: str, published: list[Table7Row], records: Iterable[Record], scale: str) -> Panel:
    """Our points of figure 2, left, at one scale: mean and sample standard deviation over seeds."""
    summaries = summarise(records, scale)
    names = [name for name in equal_ops_rows(published) if name in summaries]
    return Panel(f"{heading}\n({scale} scale)", [_point(summaries[name]) for name in names])


def _point(summary: RowSummary) -> Point:
    return Point(summary.row, float(summary.parameters), summary.perplexity, summary.spread)


def figure_2_left(panels: Sequence[Panel], command: str) -> Drawing:
    """Test perplexity against parameters at equal ops/timestep; each panel has axes of its own."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(4.6 * len(panels), 3.9), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        labels = [_draw_panel(axis, panel) for axis, panel in zip(axes, panels, strict=True)]
        axes[0].set_ylabel("test perplexity")
        figure.supxlabel("parameters without embedding and softmax (log scale)", fontsize=9)
        figure.suptitle(TITLE, fontsize=10)
        _fix_layout(figure)
        for axis, texts in zip(axes, labels, strict=True):
            place(axis, texts, LABEL_SIZE)
        return _render(figure, command)


def _draw_panel(axes: Axes, panel: Panel) -> list[Label]:
    axes.set_title(panel.title)
    if not panel.points:
        return _not_run(axes)
    axes.set_xscale("log")
    for name, (colour, marker) in FAMILIES.items():
        members = [point for point in panel.points if family(point.row) == name]
        xs, ys = [point.parameters for point in members], [point.perplexity for point in members]
        if name != "dense":
            axes.plot(xs, ys, color=colour, linewidth=1, alpha=0.5)
        axes.plot(xs, ys, marker, color=colour, markersize=5)
        for point in members:
            if point.spread is not None:
                axes.errorbar(point.parameters, point.perplexity, point.spread, ecolor=colour, capsize=3)
    leftmost = min(point.parameters for point in panel.points)
    _set_limits(axes, panel.points)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)
    return [
        # The curve falls to the right of the smallest models, so their labels go left.
        Label(p.parameters, p.perplexity, p.row, FAMILIES[family(p.row)][0], left=p.parameters < 1.5 * leftmost)
        for p in panel.points
    ]


def _set_limits(axes: Axes, points: list[Point]) -> None:
    parameters, perplexities = [p.parameters for p in points], [p.perplexity for p in points]
    reach = max(max(parameters) / min(parameters), 30.0)
    axes.set_xlim(min(parameters) / reach**0.45, min(parameters) * reach**1.45)  # room for labels on either side
    height = max(max(perplexities) - min(perplexities), 0.06 * min(perplexities))  # do not blow up mere noise
    middle = (max(perplexities) + min(perplexities)) / 2
    axes.set_ylim(middle - 0.65 * height, middle + 0.65 * height)


def family(row: str) -> str:
    """Dense baselines, flat mixtures and hierarchies, by the names of table 7."""
    if row.endswith("_h"):
        return "hierarchical mixture"
    return "flat mixture" if row.startswith("moe_") and row[4:].isdigit() else "dense"


def count(value: float) -> str:
    """As in `20k`, `1.5M` and `1B`."""
    for unit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"


def learning_curves(
    heading: str, published: list[Table7Row], records: Iterable[Record], scale: str, command: str
) -> Drawing:
    """Dev perplexity against words trained: the mean over seeds in a band of one sample standard deviation each way."""
    rows = by_row(records, scale)
    names = [row.model for row in published if row.model in rows]
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.set_title(f"Learning curves: {heading}, {scale} scale (dashed: dense models)")
        curves = {name: mean_curve(rows[name]) for name in names}
        labels = _draw_curves(axes, curves) if any(curves.values()) else _not_run(axes)
        _fix_layout(figure)
        place(axes, labels, LABEL_SIZE)
        return _render(figure, command)


def mean_curve(seeds: list[Record]) -> list[tuple[float, float, float]]:
    """(words, dev perplexity, its sample standard deviation or 0) at each step that every seed measured."""
    points = defaultdict(list)
    for record in seeds:
        for point in record.curve:
            points[point.step].append(point)
    curve = []
    for _, measured in sorted(points.items()):
        if len(measured) == len(seeds):
            values = [point.dev_perplexity for point in measured]
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            curve.append((statistics.fmean(point.words for point in measured), statistics.fmean(values), deviation))
    return curve


def _draw_curves(axes: Axes, curves: dict[str, list[tuple[float, float, float]]]) -> list[Label]:
    labels = []
    for i, (name, curve) in enumerate(curves.items()):
        if not curve:
            continue
        words, means, deviations = zip(*curve, strict=True)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(words, means, color=colour, linewidth=1.4, linestyle="--" if family(name) == "dense" else "-")
        low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
        high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
        axes.fill_between(words, low, high, color=colour, alpha=0.15, linewidth=0)
        labels.append(Label(words[-1], means[-1], f"{name}  {means[-1]:.1f}", colour))
    best = min(label.y for label in labels)
    axes.set_ylim(0.94 * best, min(axes.get_ylim()[1], 1.6 * best))  # the first measurements would flatten the rest
    axes.set_xlim(0, 1.3 * max(label.x for label in labels))  # room for the labels on the right
    axes.set_xlabel("words trained (predicted tokens)")
    axes.set_ylabel("dev perplexity")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.grid(color="#E5E5E5", linewidth=0.6)
    return labels


def _not_run(axes: Axes) -> list[Label]:
    axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", va="center", color="#777777", fontsize=12)
    axes.set_xticks([])
    axes.set_yticks([])
    return []


def _fix_layout(figure: Figure) -> None:
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # labels are placed in this layout; drawing must not move it again


def _render(figure: Figure, command: str) -> Drawing:
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": f"Generated by {command}"})
    figure.savefig(png, format="png", metadata={"Software": f"Generated by {command}"})
    return Drawing(svg.getvalue(), png.getvalue())
