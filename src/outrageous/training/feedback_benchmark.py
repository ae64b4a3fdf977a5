"""What it costs in training that the attention's context is fed back, so that the decoder's first LSTM goes step by
step: beside an LSTM of the same size whose inputs are all known, and beside the whole model."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from outrageous.models.gnmt import TranslationModel
from outrageous.models.lstm import LSTM

WHOLE, FED_BACK, KNOWN = "the whole model", "first decoder LSTM, context fed back", "the same LSTM, contexts known"


@dataclass(frozen=True)
class FeedbackSpeed:
    """
    Attributes:
        name: WHOLE, FED_BACK or KNOWN.
        length: words of each target.
        seconds: median of a forward and a backward pass.
        seconds_per_step: of one word of all targets at once.
    """

    name: str
    length: int
    seconds: float
    seconds_per_step: float


def feedback_speeds(
    model: TranslationModel, num_pairs: int, source_length: int, lengths: list[int], num_rounds: int
) -> list[FeedbackSpeed]:
    """Forward and backward passes of pairs drawn at random, all of one length a side; turns are taken in each round, so
    that whatever else the machine does meets all alike. A first round is not measured.

    Args:
        model: in training.
        lengths: of targets, to be compared.
    """
    vocabulary_size, d_model = model.softmax.weight.shape
    known = LSTM(d_model, model.config.lstm_units, d_input=2 * d_model)
    source = torch.randint(vocabulary_size, (num_pairs, source_length))
    turns: dict[tuple[str, int], Callable[[], Tensor]] = {}
    for length in lengths:
        targets = torch.randint(vocabulary_size, (num_pairs, length))
        turns[WHOLE, length] = _whole(model, source, targets)
        turns[FED_BACK, length] = _fed_back(model, source, length)
        turns[KNOWN, length] = _known(known, num_pairs, length)
    seconds: dict[tuple[str, int], list[float]] = {turn: [] for turn in turns}
    for _ in range(1 + num_rounds):
        for turn, loss in turns.items():
            model.zero_grad()
            known.zero_grad()
            start = time.perf_counter()
            loss().backward()
            seconds[turn].append(time.perf_counter() - start)
    medians = {turn: statistics.median(values[1:]) for turn, values in seconds.items()}
    return [FeedbackSpeed(*turn, median, median / turn[1]) for turn, median in medians.items()]


def _whole(model: TranslationModel, source: Tensor, targets: Tensor) -> Callable[[], Tensor]:
    """With the softmax, without balancing losses, which cost next to nothing."""
    source_mask, mask = torch.ones_like(source, dtype=torch.bool), torch.ones_like(targets, dtype=torch.bool)

    def loss() -> Tensor:
        hidden, _ = model(source, source_mask, targets, mask)
        return model.softmax.loss(hidden, targets.flatten(), targets.numel())

    return loss


def _fed_back(model: TranslationModel, source: Tensor, length: int) -> Callable[[], Tensor]:
    first = model.decoder.first
    encoded = torch.randn(*source.shape, first.d_model, requires_grad=True)
    words = torch.randn(len(source), length, first.d_model, requires_grad=True)
    mask = torch.ones_like(source, dtype=torch.bool)
    return lambda: first(words, first.attention.remember(encoded, mask)).sum()


def _known(lstm: LSTM, num_pairs: int, length: int) -> Callable[[], Tensor]:
    inputs = torch.randn(num_pairs, length, 2 * lstm.d_model, requires_grad=True)
    return lambda: lstm(inputs).sum()
