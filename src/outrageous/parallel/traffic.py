"""What processes send each other in a training step with sharded experts, and how long the step takes: predicted.

Axes: T words of a batch, w processes with T/w each; U units (experts, or groups), k of them for a word; N experts;
D d_model. Words and experts are taken to be spread evenly, and gates to be noisy top-k; numbers are counted in float32:
with bf16-mixed rows take half their bytes, which is not counted here.

The rule behind it: a row takes 6·D·H multiply-adds at an expert of one hidden layer (forward and backward) and crosses
four times, 4·D numbers (there and back, and so its gradient). So computing for each number sent grows with H alone, or
in a hierarchy with k·H, since a word's row for a group serves k of its experts.
"""

import functools
from bisect import bisect_left
from dataclasses import dataclass

import torch
from torch import Tensor

from outrageous.models.cost import cost
from outrageous.models.language_model import LanguageModel
from outrageous.models.sampled_softmax import LogUniformSampler
from outrageous.moe import Mixtures, MoE
from outrageous.parallel.gradients import are_sent_alone, buckets

FLOAT, LONG, MARK = 4, 8, 1  # bytes
CROSSINGS = 4  # of a row: there and back, and its gradient


@dataclass(frozen=True)
class Traffic:
    """Of one process in one step.

    Attributes:
        rows: bytes of rows and their gradients sent to other processes.
        others: bytes sent to them besides: counts, and of a hierarchy rows' weights and numbers.
        summed: bytes of what is summed over processes: gradients of all but experts, of tables the rows in use, and
            reports.
        exchanges, sums: calls of each kind, which all processes make together.
    """

    rows: float
    others: float
    summed: float
    exchanges: int
    sums: int

    @property
    def sent(self) -> float:
        """Bytes to other processes, sums apart."""
        return self.rows + self.others


@dataclass(frozen=True)
class Device:
    """Attributes: FLOP/s that a training step reaches; bytes/s to other devices; seconds that any call takes."""

    flops: float
    bandwidth: float
    latency: float


def predict_traffic(
    model: LanguageModel, words_per_batch: int, num_processes: int, num_used: tuple[float, float] | None = None
) -> Traffic:
    """Of a training step of a model, on the meta device too, by `num_processes` of at least 2. num_used: as
    `expected_rows` returns, where it is known."""
    away = 1 - 1 / num_processes  # of everything, as far as it is elsewhere
    rows = others = 0.0
    mixtures = [layer for layer in model.layers if isinstance(layer, MoE)]
    # Words of the batch and of each MoE.
    summed, exchanges, sums = LONG * (1 + len(mixtures)), 0, 1
    for moe in mixtures:
        units: int = moe.gate.num_experts  # type: ignore[assignment]
        k: int = moe.gate.k  # type: ignore[assignment]
        sent = away * k * words_per_batch / num_processes
        rows += CROSSINGS * sent * model.config.d_model * FLOAT
        others += away * units * LONG
        exchanges += CROSSINGS + 1  # and counts
        summed += LONG * (3 * units + 2)
        sums += 1
        if isinstance(moe.experts, Mixtures):
            others += sent * (2 * FLOAT + LONG)
            exchanges += 3  # weights, their gradients, and numbers
            num_experts: int = moe.experts.experts.num_experts  # type: ignore[assignment]
            summed += LONG * (3 * num_experts + 2)
    pieces = _summed_of_gradients(model, num_used or expected_rows(model, words_per_batch))
    summed += MARK * 2 * len(model.embedding.weight) + sum(FLOAT * piece.numel() for piece in pieces)
    return Traffic(rows, others, summed, exchanges, sums + 1 + len(buckets(pieces)))


def _summed_of_gradients(model: LanguageModel, num_used: tuple[float, float]) -> list[Tensor]:
    """Without numbers, in the order of `spread.sum_gradients`."""
    tables = (model.embedding.weight, model.softmax.weight)
    of_experts = {weight for layer in model.layers if isinstance(layer, MoE) for weight in layer.experts.parameters()}
    pieces = [weight for weight in model.parameters() if weight not in {*of_experts, *tables}]
    word_loss, squares_of_experts = torch.zeros(()), [torch.zeros(())] if of_experts else []
    used = [
        table[: round(number)] if are_sent_alone(number, len(table)) else table
        for table, number in zip(tables, num_used, strict=True)
    ]
    return [word_loss, *squares_of_experts, *pieces, *used]


def expected_rows(model: LanguageModel, words_per_batch: int) -> tuple[float, float]:
    """How many rows of embedding and softmax a batch uses, if words are spread as the softmax's sampler takes them to
    be (Zipf's law): those of its words, and of the softmax those of sampled classes too."""
    sampler = model.softmax.sampler
    return _expected_rows(sampler.num_classes, sampler.num_sampled, words_per_batch)


@functools.cache
def _expected_rows(num_classes: int, num_sampled: int, words_per_batch: int) -> tuple[float, float]:
    sampler = LogUniformSampler(num_classes, num_sampled)
    classes = torch.arange(num_classes)

    def distinct(num_draws: int) -> float:
        return sampler.expected_count(classes, torch.tensor(num_draws)).double().sum().item()

    tries = bisect_left(range(num_classes**2), num_sampled, key=lambda num_draws: round(distinct(num_draws)))
    return distinct(words_per_batch), distinct(words_per_batch + tries)


def predict_seconds(model: LanguageModel, words_per_batch: int, num_processes: int, device: Device) -> float:
    """Of a step in which computing and sending take turns. A sum goes round a ring: 2·(w - 1)/w of its bytes."""
    seconds = cost(model).flops_per_training_word * words_per_batch / num_processes / device.flops
    if num_processes == 1:
        return seconds
    traffic = predict_traffic(model, words_per_batch, num_processes)
    ring = 2 * (1 - 1 / num_processes)
    seconds += (traffic.sent + ring * traffic.summed) / device.bandwidth
    return seconds + (traffic.exchanges + traffic.sums) * device.latency
