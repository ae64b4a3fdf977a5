"""Learning curves: dev perplexity against words trained."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from outrageous.results.drawing import LABEL_SIZE, Drawing, count, family, fix_layout, house_style, not_run, render
from outrageous.results.labels import Label, place
from outrageous.results.records import Record
from outrageous.results.summary import by_row

# Okabe and Ito's colours, told apart with every common colour blindness; their yellow is too pale for lines.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")

Curve = list[tuple[float, float, float]]


def learning_curves(
    heading: str, rows: Mapping[str, str], records: Iterable[Record], scale: str, command: str
) -> Drawing:
    """The mean over seeds in a band of one sample standard deviation each way, for those of `rows` that were run, under
    the names that `rows` gives them."""
    seeds = by_row(records, scale)
    curves = {name: mean_curve(seeds[row]) for row, name in rows.items() if row in seeds}
    with house_style():
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.set_title(f"{heading}, {scale} scale\n(dashed: dense models; bands: sample standard deviation over seeds)")
        labels: list[Label] = []
        if any(curves.values()):
            labels = _draw_curves(axes, curves)
        else:
            not_run(axes)
        fix_layout(figure)
        place(axes, labels, LABEL_SIZE)
        return render(figure, command)


def mean_curve(seeds: list[Record]) -> Curve:
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


def _draw_curves(axes: Axes, curves: dict[str, Curve]) -> list[Label]:
    labels = []
    for i, (name, curve) in enumerate(curves.items()):
        if not curve:
            continue
        words, means, deviations = zip(*curve, strict=True)
        colour = COLOURS[i % len(COLOURS)]
        dense = family(name.removeprefix("news_")) == "dense" and not name.startswith("balance_")
        axes.plot(words, means, color=colour, linewidth=1.4, linestyle="--" if dense else "-")
        low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
        high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
        axes.fill_between(words, low, high, color=colour, alpha=0.15, linewidth=0)
        labels.append(Label(words[-1], means[-1], f"{name}  {means[-1]:.1f}", colour))
    best = min(label.y for label in labels)
    axes.set_ylim(0.94 * best, min(axes.get_ylim()[1], 1.6 * best))  # the first measurements would flatten the rest
    room = 0.0115 * (max(len(label.text) for label in labels) - 1)  # on the right for the labels, of the whole width
    top = axes.get_ylim()[1]
    first = min(words for curve in curves.values() for words, mean, _ in curve if mean <= top)
    last = max(label.x for label in labels)
    width = last - first or last
    axes.set_xlim(first - 0.05 * width, first + max(1.3, (1 + 0.05 * room) / (1 - room)) * width)
    axes.set_xlabel("words trained (predicted tokens)")
    axes.set_ylabel("dev perplexity")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.grid(color="#E5E5E5", linewidth=0.6)
    return labels
