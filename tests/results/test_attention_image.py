"""A picture of attention shows each weight where it belongs."""

import io

import numpy as np
import pytest
from PIL import Image

from outrageous.results import attention_image as attention_image_module
from outrageous.results.attention_image import attention_image

SOURCE, TARGET = ["▁a", "b", "c"], ["x", "</s>"]


def pixels(weights: np.ndarray) -> np.ndarray:
    image = Image.open(io.BytesIO(attention_image(weights, SOURCE, TARGET)))
    return np.asarray(image.convert("L"), dtype=float)


def test_a_weight_darkens_the_cell_of_its_word_and_its_source() -> None:
    blank = pixels(np.zeros((2, 3)))
    middles = []
    for weights in ([[1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1]]):
        darker = np.argwhere(blank - pixels(np.array(weights, dtype=float)) > 100)
        assert len(darker) > 20
        middles.append(darker.mean(axis=0))
    (row, column), (lower, farther) = middles
    assert row + 10 < lower  # downwards: the translation
    assert column + 20 < farther  # to the right: the source


def test_it_grows_with_the_sentence_and_takes_any_piece() -> None:
    small = Image.open(io.BytesIO(attention_image(np.eye(2), ["▁a", "b"], ["$x$", "</s>"])))
    large = Image.open(io.BytesIO(attention_image(np.zeros((9, 20)), ["⁂"] * 20, ["$"] * 9)))
    assert small.format == large.format == "PNG"
    assert large.width > small.width
    assert large.height > small.height


def test_long_sentences_are_drawn_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_image_module, "MOST_INCHES", 3.0)
    for num_pieces in (30, 90):
        image = Image.open(io.BytesIO(attention_image(np.zeros((2, num_pieces)), ["x"] * num_pieces, ["y"] * 2)))
        assert image.width == 500  # two inches for the pieces at the side, and no more than three
