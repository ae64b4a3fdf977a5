"""Gates: from tokens [T, D] to a `Routing` among N experts (§2.1).

Gate matrices start at zero, so that the load starts out even (appendix A). Logits, noise and softmax are computed in
float32 at least, whatever the dtype of the tokens: bfloat16 cannot tell neighbouring logits apart.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from outrageous.moe.grouped import grouped_linear
from outrageous.moe.routing import Routing, route

# Softplus underflows to 0 for logits below about -100, and 0/0 is NaN. A standard deviation this small changes no
# probability, since differences between float32 logits are many orders of magnitude larger or exactly zero.
SMALLEST_NOISE = 1e-10


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
        chosen, gates, probability = _noisy_top_k(
            logits(x, self.w_gate), logits(x, self.w_noise), self.k, self.training
        )
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

    def forward(self, rows: Tensor, tokens_per_group: Tensor) -> Routing:
        """rows [S, D] sorted by group, tokens_per_group [A] -> Routing of rows among A·B experts; load is
        Load_i(X^(i))_j, over the tokens of the expert's own group."""
        clean = grouped_logits(rows, self.w_gate, tokens_per_group)  # [S, B]
        noise = grouped_logits(rows, self.w_noise, tokens_per_group)
        chosen, gates, probability = _noisy_top_k(clean, noise, self.k, self.training)
        group = group_of_row(tokens_per_group, len(rows))  # [S]
        load = probability.new_zeros(self.num_groups, self.experts_per_group).index_add(0, group, probability)
        return _route_top_k(chosen + self.experts_per_group * group.unsqueeze(1), gates, load.flatten())

    def extra_repr(self) -> str:
        return f"num_groups={self.num_groups}, experts_per_group={self.experts_per_group}, k={self.k}"


def logits(x: Tensor, weight: Tensor) -> Tensor:
    """x [T, D] times a gate's weight [D, N] -> [T, N], in float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        return x.to(dtype) @ weight.to(dtype)


def grouped_logits(rows: Tensor, weight: Tensor, tokens_per_group: Tensor) -> Tensor:
    """rows [S, D] sorted by group, each times its group's weight, [A, D, B] -> [S, B], in float32 at least."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        return grouped_linear(rows.to(dtype), weight.to(dtype).transpose(1, 2), tokens_per_group)


def group_of_row(tokens_per_group: Tensor, num_rows: int) -> Tensor:
    """tokens_per_group [A] -> [S], the group of each of the rows sorted by group."""
    groups = torch.arange(len(tokens_per_group), device=tokens_per_group.device)
    return groups.repeat_interleave(tokens_per_group, output_size=num_rows)


def check_sizes(k: int | None = None, **sizes: int) -> None:
    """Raises ValueError unless all are positive and k is at most the last of the sizes, the number to choose from."""
    for name, size in {**sizes, **({} if k is None else {"k": k})}.items():
        if size < 1:
            raise ValueError(f"{name}={size}: must be at least 1")
    name, size = list(sizes.items())[-1]
    if k is not None and k > size:
        raise ValueError(f"k={k} experts per token, but there are only {name}={size}: lower k")


def _noisy_top_k(clean: Tensor, noise_logits: Tensor, k: int, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """clean, noise_logits [T, N] -> the chosen experts [T, k], their gate values [T, k], and P(x, i) [T, N]."""
    noise_std = F.threshold(F.softplus(noise_logits), SMALLEST_NOISE, SMALLEST_NOISE)
    noise = torch.randn_like(clean) if training else None

    def noisy_logits(experts: Tensor) -> Tensor:
        """Eq. 4 for the experts [T, any number]. Only these need a gradient, which is far cheaper than [T, N]."""
        h = clean.gather(1, experts)
        return h if noise is None else h + noise.gather(1, experts) * noise_std.gather(1, experts)

    with torch.no_grad():
        noisy = clean if noise is None else torch.addcmul(clean, noise, noise_std)
        chosen = noisy.topk(k, dim=1).indices  # Eq. 5
        next_best = noisy.scatter(1, chosen, -torch.inf).max(dim=1, keepdim=True).indices
    kept = noisy_logits(chosen)
    gates = kept.softmax(dim=1)  # Eq. 3
    if k == clean.shape[1]:  # none can fall out of the top k
        return chosen, gates, torch.ones_like(clean)
    # kth_excluding(H(x), k, i): the k-th largest noisy logit without entry i is the (k+1)-th of all where i is itself
    # among the top k, and the k-th elsewhere. By index rather than by comparison, so that ties are exact.
    probability = _Probability.apply(clean, noise_std, chosen, noisy_logits(next_best), kept[:, -1:])
    return chosen, gates, probability


class _Probability(torch.autograd.Function):
    """Eq. 8-9: P(x, i) [T, N], the probability that expert i is in the top k when only its own noise is drawn again.

    Inputs: clean, noise_std [T, N]; chosen [T, k]; the thresholds of the experts chosen and of the others, [T, 1].
    The gradient is written out because autograd's own, through twice as many steps, made this the layer's most
    expensive part where experts are many and small.
    """

    @staticmethod
    def forward(
        ctx: Any, clean: Tensor, noise_std: Tensor, chosen: Tensor, if_chosen: Tensor, if_not: Tensor
    ) -> Tensor:
        z = (clean - if_not).scatter_(1, chosen, clean.gather(1, chosen) - if_chosen).div_(noise_std)
        ctx.save_for_backward(z, noise_std, chosen)
        return torch.erf(z * math.sqrt(1 / 2)).add_(1).div_(2)  # Φ(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, Tensor, Tensor]:
        z, noise_std, chosen = ctx.saved_tensors
        density = z.square().div_(-2).exp_().div_(math.sqrt(2 * math.pi))  # Φ'(z)
        by_difference = density.mul_(grad).div_(noise_std)  # by clean - threshold
        by_std = (by_difference * z).neg_()
        by_if_chosen = by_difference.gather(1, chosen).sum(dim=1, keepdim=True).neg_()
        by_if_not = by_difference.scatter(1, chosen, 0).sum(dim=1, keepdim=True).neg_()
        return by_difference, by_std, None, by_if_chosen, by_if_not


def _route_top_k(expert: Tensor, weight: Tensor, load: Tensor) -> Routing:
    """expert, weight [T, k], load [N]."""
    num_tokens, k = expert.shape
    token = torch.arange(num_tokens, device=expert.device).repeat_interleave(k)
    return route(token, expert.reshape(-1), weight.reshape(-1), load)
