"""Cost of a layer, and of its gating alone, against the number of experts: flat and hierarchical."""

import gc
import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from outrageous.moe import NoisyTopKGate, NoisyTopKGates, balancing_loss
from outrageous.moe.hierarchical import nested
from outrageous.moe.memory import KeptMemory
from outrageous.moe.routing import gather
from outrageous.training.contestants import (
    LayerSize,
    TrainedLayer,
    flat,
    from_shared_memory,
    groups_and_k,
    hierarchical,
)

KINDS: dict[str, Callable[[LayerSize], nn.Module]] = {
    "flat layer": flat,
    "hierarchical layer": hierarchical,
    "flat gating": lambda size: FlatGating(size),
    "hierarchical gating": lambda size: HierarchicalGating(size),
}


def measure_cost(size: LayerSize, num_experts: list[int], num_rounds: int) -> dict[str, Any]:
    """Median seconds of forward + backward for each number of experts, everything else as `size` says.

    All numbers of experts take turns in every round; of two passes the second counts.
    """
    weights = torch.empty(2 * max(num_experts) * size.d_model * size.d_hidden).uniform_(-0.03, 0.03)
    points = []
    seconds: dict[tuple[str, int], list[float]] = {(kind, number): [] for kind in KINDS for number in num_experts}
    for kind, number in tqdm([turn for _ in range(num_rounds) for turn in seconds], disable=None):
        passed = _second_pass(KINDS[kind], replace(size, num_experts=number), weights)
        seconds[kind, number].append(passed)
    for (kind, number), values in seconds.items():
        points.append({"kind": kind, "num_experts": number, "forward_backward": statistics.median(values)})
    return {**asdict(size), "num_experts": num_experts, "num_rounds": num_rounds, "points": points}


def _second_pass(kind: Callable[[LayerSize], nn.Module], size: LayerSize, weights: Tensor) -> float:
    layer = TrainedLayer(from_shared_memory(lambda: kind(size), weights), None, size)
    layer.run()
    seconds = layer.run().forward_backward
    del layer
    gc.collect()
    return seconds


class FlatGating(nn.Module):
    """Noisy top-k gating among all experts, with its losses: x [T, D] -> the weights of the assignments [S]."""

    def __init__(self, size: LayerSize) -> None:
        super().__init__()
        self.gate = NoisyTopKGate(size.d_model, size.num_experts, size.k)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        routing = self.gate(x)
        return routing.weight, [balancing_loss(routing.report(), w_importance=0.1, w_load=0.1)]


class HierarchicalGating(nn.Module):
    """Both levels, and between them the rows that the secondary gates read, with the losses."""

    def __init__(self, size: LayerSize) -> None:
        super().__init__()
        num_groups, k = groups_and_k(size)
        self.gate = NoisyTopKGate(size.d_model, num_groups, k)
        self.gates = NoisyTopKGates(num_groups, size.d_model, size.num_experts // num_groups, k)
        self.memory = KeptMemory()  # as `Mixtures` has

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        groups = self.gate(x)
        rows = gather(x, groups.token, self.memory)
        routing = nested(groups, self.gates(rows, groups.tokens_per_expert, self.memory))
        return routing.weight, [balancing_loss(routing.report(), w_importance=0.1, w_load=0.1)]
