"""Strictly balanced gating (appendix F): every expert gets the same number of tokens in training."""

import math

import torch
from torch import Tensor, nn

from outrageous.moe.gates import check_sizes, grouped_logits, logits
from outrageous.moe.grouped import group_of_row
from outrageous.moe.memory import KeptMemory
from outrageous.moe.part import part_at_hand
from outrageous.moe.routing import Routing, route, starts_and_counts


class StrictlyBalancedGate(nn.Module):
    """Eq. 16: `G(x)_i = g_i·M_i / Σ_j g_j·M_j` with `g = softmax(x·W_g)` and a mask M of zeros and ones.

    In training M keeps the m tokens of the batch with each expert's highest g (Eq. 18), so a token has k experts on
    average, perhaps none, whereupon the layer gives it zero. m = k·T/N; where N does not divide k·T, m is rounded up.
    In evaluation M_i = 1 where g_i > T_i (Eq. 19), with T_i learned by L_batchwise (Eq. 20), the report's
    `threshold_loss`.

    Where the paper is silent: L_batchwise trains the thresholds alone and is a mean over tokens, so that its gradient
    does not grow with the batch; thresholds are held as logarithms, which keeps them positive and lets one learning
    rate serve all N; they start at 1/N, the value of every g at the start. There is no noise, hence no estimate of the
    load: `load` is the number of tokens, without gradient.
    """

    def __init__(self, d_model: int, num_experts: int, k: int) -> None:
        """k: experts per token on average. Raises ValueError if a size is not positive or k is above num_experts."""
        super().__init__()
        check_sizes(k, d_model=d_model, num_experts=num_experts)
        self.num_experts, self.k = num_experts, k
        self.w_gate = nn.Parameter(torch.zeros(d_model, num_experts))
        self.log_threshold = nn.Parameter(torch.full((num_experts,), -math.log(num_experts)))

    def forward(self, x: Tensor) -> Routing:
        """x [T, D] -> Routing with S = m·N in training, and any S in evaluation."""
        log_gates = logits(x, self.w_gate).log_softmax(dim=1)  # [T, N]
        kept = log_gates > self.log_threshold  # Eq. 19
        if not self.training:
            return _route(log_gates, kept)
        whole, mine = part_at_hand().whole(log_gates.detach())
        m = _tokens_per_expert(self.k, len(whole), self.num_experts)
        best = torch.zeros_like(whole, dtype=torch.bool).scatter(0, whole.topk(m, dim=0).indices, True)  # Eq. 18
        batchwise = best[mine]
        loss = _threshold_loss(log_gates, kept, batchwise, self.log_threshold)
        num_kept = m * self.num_experts if batchwise.shape == whole.shape else None
        return _route(log_gates, batchwise, threshold_loss=loss, num_kept=num_kept)

    def extra_repr(self) -> str:
        return f"num_experts={self.num_experts}, k={self.k}"


class StrictlyBalancedGates(nn.Module):
    """The secondary gates of a hierarchy: in each group a `StrictlyBalancedGate` of its own, on the group's tokens."""

    def __init__(self, num_groups: int, d_model: int, experts_per_group: int, k: int) -> None:
        """k: experts of a group per token of the group, on average. Raises ValueError as `StrictlyBalancedGate`."""
        super().__init__()
        check_sizes(k, num_groups=num_groups, d_model=d_model, experts_per_group=experts_per_group)
        self.num_groups, self.experts_per_group, self.k = num_groups, experts_per_group, k
        self.num_experts = num_groups * experts_per_group
        self.w_gate = nn.Parameter(torch.zeros(num_groups, d_model, experts_per_group))
        start = -math.log(experts_per_group)
        self.log_threshold = nn.Parameter(torch.full((num_groups, experts_per_group), start))

    def forward(self, rows: Tensor, tokens_per_group: Tensor, memory: KeptMemory | None = None) -> Routing:
        """rows [S, D] sorted by group, tokens_per_group [A] -> Routing of rows among A·B experts. memory: for the
        gradient of rows."""
        log_gates = grouped_logits(rows, self.w_gate, tokens_per_group, memory).log_softmax(dim=1)  # [S, B]
        group = group_of_row(tokens_per_group, len(rows))  # [S]
        log_threshold = self.log_threshold[group]
        kept = log_gates > log_threshold  # Eq. 19
        if not self.training:
            return _route(log_gates, kept, group, self.num_groups)
        whole, mine = part_at_hand().whole(log_gates.detach())
        best, num_best = self._best(whole, part_at_hand().whole(group)[0])
        batchwise = best[mine]
        loss = _threshold_loss(log_gates, kept, batchwise, log_threshold)
        num_kept = num_best if batchwise.shape == best.shape else None
        return _route(log_gates, batchwise, group, self.num_groups, loss, num_kept)

    def _best(self, log_gates: Tensor, group: Tensor) -> tuple[Tensor, int]:
        """Eq. 18 in each group: the mask [S, B] of rows with log_gates [S, B], group [S], and how many it keeps. A GPU
        is waited for, once: m depends on the number of a group's rows."""
        rising, order = group.sort(stable=True)
        counts = part_at_hand().counts(starts_and_counts(rising, self.num_groups)[1], len(group))
        best = torch.zeros_like(log_gates, dtype=torch.bool)
        num_best = 0
        for of_group, mask in zip(log_gates[order].split(counts), best.split(counts), strict=True):
            m = _tokens_per_expert(self.k, len(mask), self.experts_per_group)
            mask.scatter_(0, of_group.topk(m, dim=0).indices, True)
            num_best += m * self.experts_per_group
        return torch.empty_like(best).index_copy_(0, order, best), num_best

    def extra_repr(self) -> str:
        return f"num_groups={self.num_groups}, experts_per_group={self.experts_per_group}, k={self.k}"


def _tokens_per_expert(k: int, num_tokens: int, num_experts: int) -> int:
    """m = k·T/N, rounded up."""
    return -(-k * num_tokens // num_experts)


def _threshold_loss(log_gates: Tensor, threshold: Tensor, batchwise: Tensor, log_threshold: Tensor) -> Tensor:
    """Eq. 20 over the number of rows: Σ_x Σ_i (M_threshold - M_batchwise) · (g_i - T_i), all [S, B]; for T alone."""
    wrong = threshold.to(log_gates.dtype) - batchwise.to(log_gates.dtype)
    return (wrong * (log_gates.detach().exp() - log_threshold.exp())).sum() / max(1, len(log_gates))


def _route(
    log_gates: Tensor,
    mask: Tensor,
    group: Tensor | None = None,
    num_groups: int = 1,
    threshold_loss: Tensor | None = None,
    num_kept: int | None = None,
) -> Routing:
    """Eq. 16, which is a softmax over the gates that the mask keeps. log_gates, mask [S, B]; group [S] of each row;
    num_kept of the mask, where it is known without asking a GPU.

    The others are filled with the lowest number rather than -∞, which would make NaN of a row that keeps none.
    """
    weight = log_gates.masked_fill(~mask, torch.finfo(log_gates.dtype).min).softmax(dim=1)
    token, expert = (mask.nonzero() if num_kept is None else torch.nonzero_static(mask, size=num_kept)).unbind(1)
    weight = weight[token, expert]
    experts_per_group = mask.shape[1]
    if group is not None:
        expert = expert + experts_per_group * group[token]
    counts = torch.zeros(num_groups * experts_per_group, dtype=torch.int64, device=expert.device)
    load = counts.index_add(0, expert, torch.ones_like(expert)).to(weight.dtype)
    return route(token, expert, weight, load, threshold_loss)
