"""What a translation model attended to, as a picture."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from outrageous.results.drawing import house_style

INCHES_A_PIECE = 0.22


def attention_image(weights: NDArray[np.floating], source: Sequence[str], target: Sequence[str]) -> bytes:
    """A PNG: a row for each wordpiece of the translation, a column for each of the source, black where the weight is 1.

    Args:
        weights: [target, source].
    """
    with house_style():
        size = (2 + INCHES_A_PIECE * len(source), 1.5 + INCHES_A_PIECE * len(target))
        figure = Figure(figsize=size, dpi=100, layout="constrained")
        axes = figure.subplots()
        axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(source)), _plain(source), rotation=90)
        axes.set_yticks(range(len(target)), _plain(target))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _plain(pieces: Sequence[str]) -> list[str]:
    return [piece.replace("$", r"\$") for piece in pieces]  # a pair of them would begin a formula
