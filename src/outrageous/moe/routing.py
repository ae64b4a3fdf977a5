"""What a gate decides: which tokens go to which experts, with which weights."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Routing:
    """S assignments of tokens to experts, sorted by expert (and by token within an expert).

    A token may have any number of assignments, so gates that give 1, k or 0…N experts to a token need no special case.

    Attributes:
        token: [S] int64, index of the assigned token.
        expert: [S] int64, rising.
        weight: [S] gate value G(x)_i of the assignment; carries the gate's gradient.
        tokens_per_expert: [N] int64, number of assignments of each expert.
        importance: [N] Σ_x G(x)_i (§4); differentiable.
        load: [N] smooth estimate of tokens_per_expert (appendix A, Eq. 10); differentiable.
    """

    token: Tensor
    expert: Tensor
    weight: Tensor
    tokens_per_expert: Tensor
    importance: Tensor
    load: Tensor


def route(expert: Tensor, weight: Tensor, load: Tensor) -> Routing:
    """Sorts a gate's choices by expert.

    Args:
        expert: [T, k] int64, the k experts of each token, without repetition.
        weight: [T, k] their gate values.
        load: [N].
    """
    num_experts, k = load.numel(), expert.shape[1]
    flat_expert, flat_weight = expert.reshape(-1), weight.reshape(-1)  # [S]
    sorted_expert, assignment = torch.sort(flat_expert, stable=True)
    return Routing(
        token=assignment // k,
        expert=sorted_expert,
        weight=flat_weight[assignment],
        tokens_per_expert=torch.bincount(flat_expert, minlength=num_experts),
        importance=weight.new_zeros(num_experts).index_add(0, flat_expert, flat_weight),
        load=load,
    )
