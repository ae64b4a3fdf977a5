"""Speed of decoding as Markdown and as a figure, from what `outrageous-bench` saves."""

from typing import Any

from matplotlib.figure import Figure

from outrageous.results.drawing import Drawing, house_style, render
from outrageous.results.layer_tables import markdown_table, origin

COLOURS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9")
BASELINE_COLOUR = "#000000"


def decoding_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench decoding` -> sentences/s and milliseconds a word, a row for each way of decoding."""
    figures = content["figures"]
    lengths = figures["lengths"]
    ways = _ways(figures)
    num_sentences = figures["num_sentences"]
    per_second = [
        (name, *(f"{num_sentences / of_length[length]['seconds']:,.1f}" for length in lengths))
        for name, of_length in ways.items()
    ]
    per_word = [
        (
            name,
            *(f"{1000 * of_length[length]['seconds_per_word']:.3f}" for length in lengths),
            f"{_growth(of_length, lengths):.2f}",
        )
        for name, of_length in ways.items()
    ]
    headings = [f"{length} words" for length in lengths]
    return "\n\n".join(
        [
            "# Speed of decoding",
            origin(content),
            f"{figures['experiment']} at {figures['scale']} scale with noisy top-k gates (thresholds of strictly "
            f"balanced ones let as many experts through when trained only), {num_sentences} sources of "
            f"{figures['source_length']} words at once, all outputs of one length; medians of "
            f"{figures['num_rounds']} rounds, in which the ways take turns. The last row is greedy decoding that "
            "encodes the source and all words so far again for every word.",
            "Sentences/s:",
            markdown_table(["", *headings], per_second),
            "Milliseconds for one word of one sentence, and how many times as long a word takes at the greatest length "
            "as at the smallest (1: flat):",
            markdown_table(["", *headings, "growth"], per_word) + "\n",
        ]
    )


def decoding_figure(content: dict[str, Any]) -> Drawing:
    """Milliseconds for a word against the length of the output, a line for each way of decoding."""
    figures = content["figures"]
    with house_style():
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, of_length) in enumerate(_ways(figures).items()):
            searches = name.startswith("beam")
            milliseconds = [1000 * of_length[length]["seconds_per_word"] for length in figures["lengths"]]
            axes.plot(
                figures["lengths"],
                milliseconds,
                "-" if searches else "--",
                color=COLOURS[i % len(COLOURS)] if searches else BASELINE_COLOUR,
                marker="o",
                markersize=4,
                label=name,
            )
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("words of the output")
        axes.set_ylabel("ms for one word of one sentence")
        axes.set_title(f"Decoding {figures['num_sentences']} sentences at once, {figures['scale']} scale")
        axes.legend()
        return render(figure, content["command"])


def _ways(figures: dict[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """Way of decoding -> length -> its speed."""
    ways: dict[str, dict[int, dict[str, Any]]] = {}
    for speed in figures["speeds"]:
        ways.setdefault(speed["name"], {})[speed["length"]] = speed
    return ways


def _growth(of_length: dict[int, dict[str, Any]], lengths: list[int]) -> float:
    """Seconds of a word at the greatest length over those at the smallest."""
    longest, shortest = (of_length[pick(lengths)]["seconds_per_word"] for pick in (max, min))
    return float(longest / shortest)
