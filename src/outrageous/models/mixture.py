"""MoE layers within a model: built from their settings, and used on batches with padding."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from outrageous.config import GateKind, MoEConfig
from outrageous.moe import (
    FeedForwardExperts,
    Mixtures,
    MoE,
    MoEReport,
    NoisyTopKGate,
    NoisyTopKGates,
    SoftmaxGate,
    StrictlyBalancedGate,
    StrictlyBalancedGates,
)
from outrageous.moe.part import at_hand, part_at_hand

# Of the gates that choose k: the flat or primary one, and the secondary ones of a hierarchy.
GATES: dict[GateKind, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    GateKind.noisy_top_k: (NoisyTopKGate, NoisyTopKGates),
    GateKind.strictly_balanced: (StrictlyBalancedGate, StrictlyBalancedGates),
}


def build_moe(config: MoEConfig, d_model: int) -> MoE:
    """Raises ValueError if a size does not fit."""
    experts = FeedForwardExperts(config.num_experts, d_model, list(config.d_hidden), config.recompute)
    kind, k = config.gate.kind, config.gate.k
    if kind is GateKind.softmax:
        if k is not None:
            raise ValueError(f"gate.k={k}: the softmax gate uses every expert; leave k out (null)")
        if config.num_groups is not None:
            raise ValueError(f"num_groups={config.num_groups}: a gate that uses every expert needs no groups (null)")
        return MoE(SoftmaxGate(d_model, config.num_experts), experts)
    if k is None:
        raise ValueError("gate.k is not set: give the number of experts per token")
    gate, gates = GATES[kind]
    if config.num_groups is None:
        return MoE(gate(d_model, config.num_experts, k), experts)
    if config.num_groups < 1 or config.num_experts % config.num_groups:
        raise ValueError(f"num_groups={config.num_groups} does not divide num_experts={config.num_experts}")
    per_group = config.num_experts // config.num_groups
    return MoE(gate(d_model, config.num_groups, k), Mixtures(gates(config.num_groups, d_model, per_group, k), experts))


def mix(moe: MoE, x: Tensor, mask: Tensor, words: Tensor) -> tuple[Tensor, MoEReport]:
    """The MoE's output through a sigmoid (appendix C): x [B, L, D], mask [B, L] bool, False at padding, words [T] int64
    as `words_of` finds them -> [B, L, D].

    Padding neither uses experts nor counts in the load; its output is zero.
    """
    with at_hand(part_at_hand().words(mask)):
        mixed, report = moe(at_words(x, words))  # [T, D]
    out = torch.zeros_like(x).flatten(0, 1).index_copy(0, words, mixed.sigmoid().to(x.dtype))
    return out.view(x.shape), report


def words_of(mask: Tensor) -> Tensor:
    """mask [B, L] bool -> [T] int64, where it is true when flattened. A GPU is waited for: batches know it already."""
    return mask.flatten().nonzero().squeeze(1)


def at_words(x: Tensor, words: Tensor) -> Tensor:
    """x [B, L, D], words [T] -> [T, D]. As x[mask], but a GPU is not asked how many there are."""
    return x.flatten(0, 1).index_select(0, words)
