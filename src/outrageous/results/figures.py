"""Figures 2 and 3: perplexity against parameters or ops/timestep, printed and ours in panels side by side."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from outrageous.results.drawing import LABEL_SIZE, Drawing, count, family, fix_layout, house_style, not_run, render
from outrageous.results.labels import Label, place
from outrageous.results.paper_tables import OPS, PARAMS, PERPLEXITY, TABLE_7, TABLE_8, Column, PaperTable, PrintedCells
from outrageous.results.published import has_equal_ops, read_cells
from outrageous.results.records import Record
from outrageous.results.summary import DEV_AFTER_A_TENTH, RowSummary, summarise

NOTE = "bars: sample standard deviation over seeds; the panels' axes differ"
TENTH, WHOLE = "after 10% of the words", "after 100% of the words"
BUDGETS = "hierarchies of 4 billion parameters in print"
# Okabe and Ito's colours.
SERIES = {
    "dense": ("#D55E00", "s"),
    "flat mixture": ("#0072B2", "o"),
    "hierarchical mixture": ("#009E73", "^"),
    BUDGETS: ("#CC79A7", "D"),
    TENTH: ("#E69F00", "v"),
    WHOLE: ("#0072B2", "o"),
}


@dataclass(frozen=True)
class Point:
    """A model: its place across, test perplexity and its spread over seeds. The points of a series share a colour and,
    but for the dense models, a line."""

    row: str
    series: str
    x: float
    perplexity: float
    spread: float | None


@dataclass(frozen=True)
class Panel:
    """One set of axes: points of one origin and one scale."""

    title: str
    points: list[Point]


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper, drawn from a table of it.

    x: the column across, in millions, and `ours`, the same of our row as a number.
    y: the perplexities: printed column and our metric.  series_of: of a row and one of `y`.
    shows: whether a printed row stands in the figure.
    """

    name: str
    title: str
    x_label: str
    table: PaperTable
    x: Column
    ours: Callable[[RowSummary], int]
    y: dict[str, str]
    series_of: Callable[[str, str], str]
    shows: Callable[[PrintedCells], bool]

    def printed_rows(self, published: Path) -> list[PrintedCells]:
        """The rows of the published table that the figure shows. Raises UserError when the table is damaged."""
        rows = read_cells(published / f"{self.table.name}.csv", ["model", OPS.printed, PARAMS.printed, *self.y])
        return [cells for cells in rows if self.shows(cells)]


def _printed(cells: PrintedCells, column: Column) -> float:
    return float(cells[column.printed] or 0)


FIGURE_2_LEFT = PaperFigure(
    name="figure_2_left",
    title="Figure 2, left: test perplexity at about equal ops/timestep",
    x_label="parameters without embedding and softmax (log scale)",
    table=TABLE_7,
    x=PARAMS,
    ours=lambda summary: summary.parameters,
    y={PERPLEXITY.printed: "test_perplexity"},
    series_of=lambda row, _: family(row),
    shows=lambda cells: has_equal_ops(_printed(cells, OPS)),
)
FIGURE_2_RIGHT = PaperFigure(
    name="figure_2_right",
    title="Figure 2, right: test perplexity against ops/timestep",
    x_label="ops/timestep: multiply-adds without the softmax (log scale)",
    table=TABLE_7,
    x=OPS,
    ours=lambda summary: summary.ops_per_timestep,
    y={PERPLEXITY.printed: "test_perplexity"},
    series_of=lambda row, _: BUDGETS if row in ("moe_4096_h", "moe_34m", "moe_143m") else family(row),
    # Not the 5-grams, and the model of lstm_2048_512 once.
    shows=lambda cells: _printed(cells, OPS) >= 1 and cells["model"] != "lstm_2048_512_jozefowicz",
)
FIGURE_3 = PaperFigure(
    name="figure_3",
    title="Figure 3: perplexity after 10% (ours: of the dev part) and 100% of the words",
    x_label="parameters without embedding and softmax (log scale)",
    table=TABLE_8,
    x=PARAMS,
    ours=lambda summary: summary.parameters,
    y={"test_perplexity_0.1_epochs": DEV_AFTER_A_TENTH, "test_perplexity_1_epoch": "test_perplexity"},
    series_of=lambda _, y: TENTH if y == "test_perplexity_0.1_epochs" else WHOLE,
    shows=lambda cells: _printed(cells, PARAMS) > 0,
)


PAPER_FIGURES = {figure.name: figure for figure in (FIGURE_2_LEFT, FIGURE_2_RIGHT, FIGURE_3)}


def printed_panel(figure: PaperFigure, published: Path) -> Panel:
    """The paper's points. Raises UserError when the published table is damaged."""
    points = []
    for cells in figure.printed_rows(published):
        for y in figure.y:
            if cells[figure.x.printed] and cells[y]:
                row, x = cells["model"], 1e6 * _printed(cells, figure.x)
                points.append(Point(row, figure.series_of(row, y), x, float(cells[y]), None))
    return Panel("printed in the paper\n(paper scale)", points)


def our_panel(figure: PaperFigure, heading: str, published: Path, records: Iterable[Record], scale: str) -> Panel:
    """Our points at one scale: mean and sample standard deviation over seeds."""
    summaries = summarise(records, scale)
    points = []
    for cells in figure.printed_rows(published):
        summary = summaries.get(figure.table.row_of(cells))
        for y, metric in figure.y.items():
            if summary is not None and metric in summary.metrics:
                row, value = cells["model"], summary.metrics[metric]
                x = float(figure.ours(summary))
                points.append(Point(row, figure.series_of(row, y), x, value.mean, value.spread))
    return Panel(f"{heading}\n({scale} scale)", points)


def draw(figure: PaperFigure, panels: Sequence[Panel], command: str) -> Drawing:
    """The panels side by side, each with axes of its own."""
    with house_style():
        widths = [1.0 if panel.points else 0.35 for panel in panels]  # nothing takes little room
        canvas = Figure(figsize=(4.6 * sum(widths), 4.2), layout="constrained")
        axes = canvas.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
        labels = [_draw_panel(axis, panel) for axis, panel in zip(axes, panels, strict=True)]
        axes[0].set_ylabel("perplexity")
        for axis, panel in zip(axes, panels, strict=True):
            axis.set_xlabel(figure.x_label if panel.points else "")
        canvas.suptitle(f"{figure.title}\n({NOTE})", fontsize=10)
        handles = {handle.get_label(): handle for axis in axes for handle in axis.get_legend_handles_labels()[0]}
        shown = [name for name in SERIES if name in handles]
        canvas.legend([handles[name] for name in shown], shown, loc="outside lower center", ncols=len(shown))
        fix_layout(canvas)
        for axis, texts in zip(axes, labels, strict=True):
            place(axis, texts, LABEL_SIZE)
        return render(canvas, command)


def _draw_panel(axes: Axes, panel: Panel) -> list[Label]:
    axes.set_title(panel.title)
    if not panel.points:
        not_run(axes)
        return []
    axes.set_xscale("log")
    for name, (colour, marker) in SERIES.items():
        members = [point for point in panel.points if point.series == name]
        if not members:
            continue
        xs, ys = [point.x for point in members], [point.perplexity for point in members]
        if name != "dense":
            axes.plot(xs, ys, color=colour, linewidth=1, alpha=0.5)
        axes.plot(xs, ys, marker, color=colour, markersize=5, label=name)
        for point in members:
            if point.spread is not None:
                axes.errorbar(point.x, point.perplexity, point.spread, ecolor=colour, elinewidth=1, capsize=3)
    # Figure 3 has each model twice: once is enough.
    labels = [_label(panel, point) for point in panel.points if point.series != TENTH]
    _set_limits(axes, panel.points, labels)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)
    return labels


def _label(panel: Panel, point: Point) -> Label:
    """Perplexity falls to the right of the smallest models, so their labels go left; below figure 3's lower line, all
    but the last do. Where the line does not fall, the label goes below it."""
    xs = [math.log(each.x) for each in panel.points]
    smallest, largest, x = min(xs), max(xs), math.log(point.x)
    left = x < largest if point.series == WHOLE else x - smallest <= 0.1 * (largest - smallest)
    following = [each for each in panel.points if each.series == point.series and each.x > point.x]
    on_the_line = (
        not left and point.series != "dense" and any(each.perplexity >= point.perplexity for each in following)
    )
    colour = SERIES[point.series][0]
    return Label(point.x, point.perplexity, point.row, colour, left, shift=-LABEL_SIZE if on_the_line else 0.0)


def _set_limits(axes: Axes, points: list[Point], labels: Sequence[Label]) -> None:
    """All points with their bars, and room for the labels beside the outermost points."""
    xs = [math.log10(point.x) for point in points]
    left = _room(label.text for label in labels if label.left)
    right = _room(label.text for label in labels if not label.left)
    decades = max(max(xs) - min(xs), 0.25) / (1 - left - right)
    middle = (max(xs) + min(xs)) / 2 + (right - left) / 2 * decades
    axes.set_xlim(10 ** (middle - decades / 2), 10 ** (middle + decades / 2))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
    low = min(point.perplexity - (point.spread or 0.0) for point in points)
    high = max(point.perplexity + (point.spread or 0.0) for point in points)
    height = max(high - low, 0.06 * low)  # do not blow up mere noise
    axes.set_ylim((high + low) / 2 - 0.65 * height, (high + low) / 2 + 0.65 * height)


def _room(texts: Iterable[str]) -> float:
    """The share of a panel's width, some 290 points, that the widest label takes with its gap; a margin if none."""
    return max((0.06 + 0.0165 * len(text) for text in texts), default=0.08)
