"""A corpus as a figure: how long its sentences are, how frequent its words, and how much the frequent ones cover."""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from outrageous.results.drawing import Drawing, count, house_style, render

# Okabe and Ito's colours, told apart with every common colour blindness.
COLOURS = ("#0072B2", "#E69F00", "#009E73")
POINTS = 300  # of a curve over ranks, evenly spread over its logarithm
SHOWN = 0.995  # of all sentences: the few longest would press the others together


def corpus_figure(
    title: str,
    unit: str,
    lengths: Mapping[str, NDArray[np.int64]],
    counts: NDArray[np.int64],
    num_units: int,
    command: str,
) -> Drawing:
    """Three panels: lengths, frequency against rank, coverage against the size of a vocabulary.

    Args:
        unit: what sentences consist of: words or wordpieces.
        lengths: name of some sentences -> how many of them have 0, 1, 2, … units.
        counts: of the different units in training, falling.
        num_units: in training, unknown ones included.
    """
    with house_style():
        figure = Figure(figsize=(9.6, 3.2), layout="constrained")
        figure.suptitle(title, fontsize=10)
        left, middle, right = figure.subplots(1, 3)
        _draw_lengths(left, unit, lengths)
        ranks = np.unique(np.geomspace(1, len(counts), POINTS).astype(int))
        middle.loglog(ranks, counts[ranks - 1], color=COLOURS[0])
        middle.set_title(f"frequency of the {len(counts):,} {unit}")
        middle.set_ylabel("times in training")
        right.semilogx(ranks, np.cumsum(counts)[ranks - 1] / num_units, color=COLOURS[0])
        right.set_title(f"covered by all of these: {counts.sum() / num_units:.2%}")
        right.set_ylabel("of training, by the most frequent")
        right.set_ylim(0, 1.02)
        right.yaxis.set_major_formatter(PercentFormatter(1.0))
        _label((middle, right), f"rank of the {unit[:-1]} by frequency")
        middle.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        return render(figure, command)


def _draw_lengths(axes: Axes, unit: str, lengths: Mapping[str, NDArray[np.int64]]) -> None:
    for (name, number), colour in zip(lengths.items(), COLOURS, strict=False):
        mean = np.average(np.arange(len(number)), weights=number)
        axes.plot(number / number.sum(), color=colour, label=f"{name}: mean {mean:.1f}", linewidth=1.2)
    longest = max(int(np.searchsorted(np.cumsum(number), SHOWN * number.sum())) for number in lengths.values())
    axes.set_xlim(0, max(longest, 1))
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title("lengths of sentences")
    axes.set_xlabel(f"{unit} of a sentence")
    axes.set_ylabel("of sentences")
    axes.legend(loc="upper right")


def _label(panels: Iterable[Axes], across: str) -> None:
    for axes in panels:
        axes.set_xlabel(across)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.grid(color="#E5E5E5", linewidth=0.6)
