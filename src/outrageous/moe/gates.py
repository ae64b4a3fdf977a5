"""Gates: from tokens [T, D] to a `Routing` among N experts (§2.1).

Gate matrices start at zero, so that the load starts out even (appendix A). Logits, noise and softmax are computed in
float32 at least, whatever the dtype of the tokens: bfloat16 cannot tell neighbouring logits apart.
"""

import torch
from torch import Tensor, nn

from outrageous.moe.device import on_gpu
from outrageous.moe.grouped import GroupSizes, group_of_row, grouped_linear, tiled_linear, without_autocast
from outrageous.moe.memory import KeptMemory
from outrageous.moe.noisy_top_k import noisy_top_k
from outrageous.moe.routing import Routing, route

# On a GPU, of the rows of an average group in a hierarchy: fewer tiles are filled up with more zeros, and more need
# more copies of a gate's matrix.
TILES_PER_GROUP = 16
MOST_ROWS_PER_TILE = 1024


class SoftmaxGate(nn.Module):
    """Eq. 2: `G(x) = softmax(x·W_g)`, dense: every token uses every expert.

    With one expert the gate is 1 for every token: an expert that is always on.
    """

    def __init__(self, d_model: int, num_experts: int) -> None:
        """Raises ValueError if a size is not positive."""
        super().__init__()
        check_sizes(d_model=d_model, num_experts=num_experts)
        self.num_experts = self.k = num_experts
        self.w_gate = nn.Parameter(torch.zeros(d_model, num_experts))

    def forward(self, x: Tensor) -> Routing:
        """x [T, D] -> Routing with S = N·T. Every expert receives every token, so load = T."""
        gates = logits(x, self.w_gate).softmax(dim=1)  # Eq. 2, [T, N]
        experts = torch.arange(self.num_experts, device=x.device).expand(len(x), -1)
        return _route_top_k(experts, gates, load=torch.ones_like(gates).sum(dim=0))

    def extra_repr(self) -> str:
        return f"num_experts={self.num_experts}"


class NoisyTopKGate(nn.Module):
    """Eq. 3-5: the k largest of the noisy logits, and a softmax over these alone.

    Noise is drawn in training mode only. In evaluation the choice is made on the clean logits; the load is then the
    same Eq. 9 with the noise of every other expert at zero: how many tokens each expert would get if its own noise
    were drawn. The paper does not say what the load is without noise.
    """

    def __init__(self, d_model: int, num_experts: int, k: int) -> None:
        """Raises ValueError if a size is not positive or k is larger than num_experts."""
        super().__init__()
        check_sizes(k, d_model=d_model, num_experts=num_experts)
        self.num_experts, self.k = num_experts, k
        self.w_gate = nn.Parameter(torch.zeros(d_model, num_experts))
        self.w_noise = nn.Parameter(torch.zeros(d_model, num_experts))

    def forward(self, x: Tensor) -> Routing:
        """x [T, D] -> Routing with S = k·T."""
        both = logits(x, torch.cat([self.w_gate, self.w_noise], dim=1))  # [T, 2N]
        chosen, gates, probability = noisy_top_k(both, self.k, self.training)
        return _route_top_k(chosen, gates, load=probability.sum(dim=0))  # Eq. 10

    def extra_repr(self) -> str:
        return f"num_experts={self.num_experts}, k={self.k}"


class NoisyTopKGates(nn.Module):
    """The secondary gates of a hierarchy (appendix B): in each group a `NoisyTopKGate` of its own."""

    def __init__(self, num_groups: int, d_model: int, experts_per_group: int, k: int) -> None:
        """k: experts of a group per token. Raises ValueError as `NoisyTopKGate`, or if num_groups is not positive."""
        super().__init__()
        check_sizes(k, num_groups=num_groups, d_model=d_model, experts_per_group=experts_per_group)
        self.num_groups, self.experts_per_group, self.k = num_groups, experts_per_group, k
        self.num_experts = num_groups * experts_per_group
        self.w_gate = nn.Parameter(torch.zeros(num_groups, d_model, experts_per_group))
        self.w_noise = nn.Parameter(torch.zeros(num_groups, d_model, experts_per_group))

    def forward(self, rows: Tensor, tokens_per_group: Tensor, memory: KeptMemory | None = None) -> Routing:
        """rows [S, D] sorted by group, tokens_per_group [A] -> Routing of rows among A·B experts; load is
        Load_i(X^(i))_j, over the tokens of the expert's own group. memory: for the gradient of rows."""
        weight = torch.cat([self.w_gate, self.w_noise], dim=2)
        both = grouped_logits(rows, weight, tokens_per_group, memory)  # [S, 2B]
        chosen, gates, probability = noisy_top_k(both, self.k, self.training)
        group = group_of_row(tokens_per_group, len(rows))  # [S]
        load = probability.new_zeros(self.num_groups, self.experts_per_group).index_add(0, group, probability)
        return _route_top_k(chosen + self.experts_per_group * group.unsqueeze(1), gates, load.flatten())

    def extra_repr(self) -> str:
        return f"num_groups={self.num_groups}, experts_per_group={self.experts_per_group}, k={self.k}"


def logits(x: Tensor, weight: Tensor) -> Tensor:
    """x [T, D] times a gate's weight [D, N] -> [T, N], in float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    with without_autocast(x):
        return x.to(dtype) @ weight.to(dtype)


def grouped_logits(rows: Tensor, weight: Tensor, tokens_per_group: Tensor, memory: KeptMemory | None = None) -> Tensor:
    """rows [S, D] sorted by group, each times its group's weight, [A, D, B] -> [S, B], in float32 at least."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    with without_autocast(rows):
        rows, weight = rows.to(dtype), weight.to(dtype).transpose(1, 2)
        if on_gpu(rows):
            rows_per_tile = min(MOST_ROWS_PER_TILE, 1 + len(rows) // (TILES_PER_GROUP * len(weight)))
            return tiled_linear(rows, weight, tokens_per_group, rows_per_tile)
        return grouped_linear(rows, weight, GroupSizes(tokens_per_group, len(rows)), memory)


def check_sizes(k: int | None = None, **sizes: int) -> None:
    """Raises ValueError unless all are positive and k is at most the last of the sizes, the number to choose from."""
    for name, size in {**sizes, **({} if k is None else {"k": k})}.items():
        if size < 1:
            raise ValueError(f"{name}={size}: must be at least 1")
    name, size = list(sizes.items())[-1]
    if k is not None and k > size:
        raise ValueError(f"k={k} experts per token, but there are only {name}={size}: lower k")


def _route_top_k(expert: Tensor, weight: Tensor, load: Tensor) -> Routing:
    """expert, weight [T, k], load [N]."""
    num_tokens, k = expert.shape
    token = torch.arange(num_tokens, device=expert.device).repeat_interleave(k)
    return route(token, expert.reshape(-1), weight.reshape(-1), load)
