"""Speed of decoding against the length of the output: beams of several widths, and a baseline that encodes everything
again for every word."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from outrageous.models.beam_search import BeamSettings, beam_search
from outrageous.models.gnmt import TranslationModel

BOS, EOS = 0, 1


@dataclass(frozen=True)
class DecodingSpeed:
    """
    Attributes:
        name: "beam of 4", or "greedy, encoding again".
        length: words of each output.
        seconds: median for all sentences together.
        seconds_per_word: of one word of one sentence's output; flat in length where nothing is computed twice.
    """

    name: str
    length: int
    seconds: float
    seconds_per_word: float


def decoding_speeds(
    model: TranslationModel, source: Tensor, lengths: list[int], beams: list[int], num_rounds: int
) -> list[DecodingSpeed]:
    """Turns are taken in each round, so that whatever else the machine does meets all alike. No output ends before its
    length: the end mark's bias is set to -∞ meanwhile.

    Args:
        model: in evaluation.
        source: [S, L] int64, without padding.
        lengths: of outputs, to be compared.
    """
    mask = torch.ones_like(source, dtype=torch.bool)
    turns: dict[tuple[str, int], Callable[[], object]] = {}
    for length in lengths:
        for num_beams in beams:
            settings = BeamSettings(num_beams, margin=math.inf, max_ratio=(length + 0.5) / source.shape[1])
            turns[f"beam of {num_beams}", length] = _searching(model, source, mask, settings)
        turns["greedy, encoding again", length] = _encoding_again(model, source, mask, length)
    seconds: dict[tuple[str, int], list[float]] = {turn: [] for turn in turns}
    bias = model.softmax.bias[EOS].item()
    with torch.no_grad():
        model.softmax.bias[EOS] = -torch.inf
        try:
            for _ in range(num_rounds):
                for turn, decode in turns.items():
                    start = time.perf_counter()
                    decode()
                    seconds[turn].append(time.perf_counter() - start)
        finally:
            model.softmax.bias[EOS] = bias
    medians = {turn: statistics.median(values) for turn, values in seconds.items()}
    return [
        DecodingSpeed(name, length, median, median / (length * len(source)))
        for (name, length), median in medians.items()
    ]


def _searching(model: TranslationModel, source: Tensor, mask: Tensor, settings: BeamSettings) -> Callable[[], object]:
    return lambda: beam_search(model, source, mask, BOS, EOS, settings)


def _encoding_again(model: TranslationModel, source: Tensor, mask: Tensor, length: int) -> Callable[[], Tensor]:
    def decode() -> Tensor:
        inputs = torch.full_like(source[:, :1], BOS)
        for _ in range(length):
            hidden, _ = model(source, mask, inputs, torch.ones_like(inputs, dtype=torch.bool))
            last = hidden.view(*inputs.shape, -1)[:, -1]
            best = model.softmax.log_probabilities(last).argmax(dim=1, keepdim=True)
            inputs = torch.cat([inputs, best], dim=1)
        return inputs[:, 1:]

    return decode
