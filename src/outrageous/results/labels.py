"""Direct labels for points and line ends that do not cover each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Annotation

GAP = 12.0  # points between an anchor and its label


@dataclass(frozen=True)
class Label:
    """`text` in a darker `colour`, to stand to the right or left of (x, y), which are data coordinates, and `shift`
    points above it."""

    x: float
    y: float
    text: str
    colour: str
    left: bool = False
    shift: float = 0.0


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """The positions nearest to the given ones (least squares) that keep their order and are at least `gap` apart.

    With i its rank, position - i·gap must not fall: pooling adjacent violators gives the nearest such sequence.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    pools: list[tuple[float, int]] = []  # (mean, size) of position - rank·gap
    for rank, i in enumerate(order):
        mean, size = positions[i] - rank * gap, 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    shifted = [mean for mean, size in pools for _ in range(size)]
    result = [0.0] * len(positions)
    for rank, i in enumerate(order):
        result[i] = shifted[rank] + rank * gap
    return result


def place(axes: Axes, labels: Sequence[Label], size: float) -> None:
    """Draw the labels at `size` points; those moved off their anchor's height get a thin leader.

    Call it last: limits and layout of `axes` must be final.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()
    unit = figure.dpi / 72  # pixels a point
    notes = [_draw(axes, label, size) for label in labels]
    boxes = [note.get_window_extent(renderer) for note in notes]
    anchors = [axes.transData.transform((label.x, label.y))[1] for label in labels]
    for column in _columns([(box.x0, box.x1) for box in boxes]):
        heights = spread([anchors[i] + labels[i].shift * unit for i in column], gap=1.3 * size * unit)
        for i, height in zip(column, heights, strict=True):
            offset = (height - anchors[i]) / unit
            notes[i].set_position((notes[i].get_position()[0], offset))
            if abs(offset) > size / 5:
                _lead(axes, labels[i], offset)


def _draw(axes: Axes, label: Label, size: float) -> Annotation:
    return axes.annotate(
        label.text,
        xy=(label.x, label.y),
        xytext=(-GAP if label.left else GAP, 0),
        textcoords="offset points",
        color=tuple(0.75 * part for part in to_rgb(label.colour)),  # pale colours are hard to read as text
        fontsize=size,
        horizontalalignment="right" if label.left else "left",
        verticalalignment="center",
        annotation_clip=False,
        zorder=1.9,  # the box hides grid lines, but neither points nor curves
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
    )


def _lead(axes: Axes, label: Label, offset: float) -> None:
    reach = GAP - 2
    axes.annotate(
        "",
        xy=(label.x, label.y),
        xytext=(-reach if label.left else reach, offset),
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0},
        annotation_clip=False,
    )


def _columns(intervals: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Indices of the intervals, grouped into runs that overlap sideways."""
    columns: list[list[int]] = []
    end = float("-inf")
    for i in sorted(range(len(intervals)), key=lambda i: intervals[i]):
        if intervals[i][0] > end:
            columns.append([])
        columns[-1].append(i)
        end = max(end, intervals[i][1])
    return columns
