"""What a gate decides: which tokens go to which experts, with which weights."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from outrageous.moe.device import on_gpu
from outrageous.moe.memory import KeptMemory, empty

# On a CPU what is done to each row in turn is done to so many at once, few enough for them to stay in the cache.
ROWS_PER_BLOCK = 256


@dataclass(frozen=True)
class MoEReport:
    """What one forward pass did to the experts: the input of the balancing losses and of every utilisation figure.

    Attributes:
        tokens_per_expert: [N] int64, number of assignments of each expert.
        importance: [N] Σ_x G(x)_i (§4); differentiable.
        load: [N] smooth estimate of tokens_per_expert (appendix A, Eq. 10), differentiable; for gates without noise
            the same numbers as tokens_per_expert.
        threshold_loss: scalar, L_batchwise of strictly balanced gates (appendix F, Eq. 20); 0 for other gates.
    """

    tokens_per_expert: Tensor
    importance: Tensor
    load: Tensor
    threshold_loss: Tensor


@dataclass(frozen=True)
class Routing:
    """S assignments of tokens to experts, sorted by expert (and by token within an expert).

    A token may have any number of assignments, so gates that give 1, k or 0…N experts to a token need no special case.

    Attributes:
        token: [S] int64, index of the assigned token.
        expert: [S] int64, rising.
        weight: [S] gate value G(x)_i of the assignment; carries the gate's gradient.
        tokens_per_expert, importance, load, threshold_loss: as in `MoEReport`.
    """

    token: Tensor
    expert: Tensor
    weight: Tensor
    tokens_per_expert: Tensor
    importance: Tensor
    load: Tensor
    threshold_loss: Tensor

    def report(self) -> MoEReport:
        """What is to be reported of experts that do what this routing says."""
        return MoEReport(self.tokens_per_expert, self.importance, self.load, self.threshold_loss)


def route(token: Tensor, expert: Tensor, weight: Tensor, load: Tensor, threshold_loss: Tensor | None = None) -> Routing:
    """Sorts a gate's choices by expert.

    Args:
        token: [S] int64, rising.
        expert: [S] int64, the expert of each assignment; no token has the same one twice.
        weight: [S] their gate values.
        load: [N].
        threshold_loss: scalar; None for 0.
    """
    num_experts = load.numel()
    sorted_expert, order = torch.sort(expert, stable=True)
    return Routing(
        token=token[order],
        expert=sorted_expert,
        weight=weight[order],
        tokens_per_expert=starts_and_counts(sorted_expert, num_experts)[1],
        importance=weight.new_zeros(num_experts).index_add(0, expert, weight),
        load=load,
        threshold_loss=weight.new_zeros(()) if threshold_loss is None else threshold_loss,
    )


def gather(tokens: Tensor, token: Tensor, memory: KeptMemory | None = None) -> Tensor:
    """tokens [T, D] -> [S, D], the rows that `token` [S] names; put into `memory`, if there is one."""
    return _Gather.apply(tokens, token, memory)


def combine(rows: Tensor, token: Tensor, weight: Tensor, num_tokens: int, memory: KeptMemory | None = None) -> Tensor:
    """rows [S, D] of tokens [S] -> [num_tokens, D]: the sum over each token's rows, times their weight [S]; zero for a
    token without any.

    memory: where the gradient of rows is put, if there is one.
    """
    return _Combine.apply(rows, token, weight.to(rows.dtype), num_tokens, memory)


class _Gather(torch.autograd.Function):
    """Autograd's own gradient of a gather adds row after row, with atomics on a GPU; here every token's rows are found
    first and summed in their order, which is faster and always the same sum."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, token: Tensor, memory: KeptMemory | None) -> Tensor:
        ctx.save_for_backward(token)
        ctx.num_tokens = len(tokens)
        rows = empty(memory, "rows", tokens, len(token), tokens.shape[1])
        return torch.index_select(tokens, 0, token, out=rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (token,) = ctx.saved_tensors
        order, first_row = _by_token(token, ctx.num_tokens)
        return F.embedding_bag(order, grad, first_row, mode="sum"), None, None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, token: Tensor, weight: Tensor, num_tokens: int, memory: KeptMemory | None
    ) -> Tensor:
        ctx.save_for_backward(rows, token, weight)
        ctx.memory = memory
        order, first_row = _by_token(token, num_tokens)
        return F.embedding_bag(order, rows, first_row, mode="sum", per_sample_weights=weight[order])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        rows, token, weight = ctx.saved_tensors
        grad_rows = empty(ctx.memory, "gradient of the result", rows, *rows.shape)
        grad_weight = torch.empty_like(weight)
        rows_per_block = max(1, len(rows)) if on_gpu(rows) else ROWS_PER_BLOCK
        tensors = (rows, token, weight.unsqueeze(1), grad_rows, grad_weight)
        for row, t, w, grad_row, grad_w in zip(*(x.split(rows_per_block) for x in tensors), strict=True):
            torch.index_select(grad, 0, t, out=grad_row)
            torch.linalg.vecdot(grad_row, row, out=grad_w)
            grad_row.mul_(w)
        return grad_rows, None, grad_weight, None, None


def _by_token(token: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """token [S] of each row -> [S], the rows of token 0, then of token 1 and so on, and [T], where each one's begin."""
    rising, order = token.sort(stable=True)
    return order, starts_and_counts(rising, num_tokens)[0]


def starts_and_counts(rising: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """rising [S] int64 -> where each of 0 … num - 1 begins in it, and how often it occurs, both [num] int64.

    bincount would do on a CPU; a GPU it would wait for, to see that no number is negative.
    """
    ends = torch.searchsorted(rising, torch.arange(num, device=rising.device), right=True)
    starts = F.pad(ends, (1, 0))[:num]
    return starts, ends - starts
