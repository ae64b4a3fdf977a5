"""What a translation model attended to, as a picture."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from outrageous.results.drawing import house_style

INCHES_A_PIECE = 0.22
MOST_INCHES = 40.0  # of a side, 4000 pixels: longer sentences are drawn smaller
READABLE = 3.0  # points; smaller letters are left out


def attention_image(weights: NDArray[np.floating], source: Sequence[str], target: Sequence[str]) -> bytes:
    """A PNG: a row for each wordpiece of the translation, a column for each of the source, black where the weight is 1.
    Where there are more than some 500 of either, they are numbered instead of named.

    Args:
        weights: [target, source].
    """
    with house_style():
        inches = min(INCHES_A_PIECE, MOST_INCHES / max(len(source), len(target)))
        size = (2 + inches * len(source), 1.5 + inches * len(target))
        figure = Figure(figsize=size, dpi=100, layout="constrained")
        axes = figure.subplots()
        axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        letters = 9 * inches / INCHES_A_PIECE
        if letters >= READABLE:
            axes.set_xticks(range(len(source)), _plain(source), rotation=90, fontsize=letters)
            axes.set_yticks(range(len(target)), _plain(target), fontsize=letters)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _plain(pieces: Sequence[str]) -> list[str]:
    return [piece.replace("$", r"\$") for piece in pieces]  # a pair of them would begin a formula
