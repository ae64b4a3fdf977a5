"""What processes send each other in a training step with sharded experts, and how long the step takes: predicted.

Axes: T words of a batch, w processes with T/w each; U units (experts, or groups), k of them for a word; N experts;
D d_model. Words and experts are taken to be spread evenly, and gates to be noisy top-k.

The rule behind it: a row takes 6·D·H multiply-adds at an expert of one hidden layer (forward and backward) and crosses
four times, 4·D numbers (there and back, and so its gradient). So computing for each number sent grows with H alone, or
in a hierarchy with k·H, since a word's row for a group serves k of its experts.
"""

from dataclasses import dataclass

from outrageous.models.cost import cost
from outrageous.models.language_model import LanguageModel
from outrageous.moe import Mixtures, MoE
from outrageous.parallel.processes import buckets

FLOAT, INT = 4, 8  # bytes
CROSSINGS = 4  # of a row: there and back, and its gradient


@dataclass(frozen=True)
class Traffic:
    """Of one process in one step.

    Attributes:
        rows: bytes of rows and their gradients sent to other processes.
        others: bytes sent to them besides: rows' weights and numbers, counts.
        summed: bytes of what is summed over processes: gradients of all but experts, reports.
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


def predict_traffic(model: LanguageModel, words_per_batch: int, num_processes: int) -> Traffic:
    """Of a training step of a model, on the meta device too, by `num_processes` of at least 2."""
    away = 1 - 1 / num_processes  # of everything, as far as it is elsewhere
    rows = others = 0.0
    mixtures = [layer for layer in model.layers if isinstance(layer, MoE)]
    of_experts = {weight for moe in mixtures for weight in moe.experts.parameters()}
    shared = [weight for weight in model.parameters() if weight not in of_experts]
    # Words of the batch, of each MoE; the loss; the squared norm of experts' gradients.
    summed, exchanges, sums = INT * (1 + len(mixtures)) + 2 * FLOAT, 0, 3 if mixtures else 2
    for moe in mixtures:
        units: int = moe.gate.num_experts  # type: ignore[assignment]
        k: int = moe.gate.k  # type: ignore[assignment]
        num_experts, hierarchical = units, isinstance(moe.experts, Mixtures)
        if hierarchical:
            num_experts = moe.experts.experts.num_experts  # type: ignore[union-attr, assignment]
        sent = away * k * words_per_batch / num_processes
        rows += CROSSINGS * sent * model.config.d_model * FLOAT
        others += sent * (2 * FLOAT + (INT if hierarchical else 0)) + away * units * INT
        exchanges += CROSSINGS + 3 + (1 if hierarchical else 0)  # weights twice, counts, and numbers
        summed += 2 * FLOAT * (units + 2 * num_experts + 1) + INT * num_experts + 2 * INT
        sums += 5
    summed += FLOAT * sum(weight.numel() for weight in shared)
    return Traffic(rows, others, summed, exchanges, sums + len(buckets(shared)))


def predict_seconds(model: LanguageModel, words_per_batch: int, num_processes: int, device: Device) -> float:
    """Of a step in which computing and sending take turns. A sum goes round a ring: 2·(w - 1)/w of its bytes."""
    seconds = cost(model).flops_per_training_word * words_per_batch / num_processes / device.flops
    if num_processes == 1:
        return seconds
    traffic = predict_traffic(model, words_per_batch, num_processes)
    ring = 2 * (1 - 1 / num_processes)
    seconds += (traffic.sent + ring * traffic.summed) / device.bandwidth
    return seconds + (traffic.exchanges + traffic.sums) * device.latency
