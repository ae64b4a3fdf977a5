"""What a gate decides: which tokens go to which experts, with which weights."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from outrageous.moe.memory import KeptMemory, empty


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
        tokens_per_expert=torch.bincount(expert, minlength=num_experts),
        importance=weight.new_zeros(num_experts).index_add(0, expert, weight),
        load=load,
        threshold_loss=weight.new_zeros(()) if threshold_loss is None else threshold_loss,
    )


def gather(tokens: Tensor, token: Tensor, memory: KeptMemory | None = None, purpose: str = "rows") -> Tensor:
    """tokens [T, D] -> [S, D], the rows that `token` [S] names; put into `memory`, if there is one, for `purpose`."""
    return _Gather.apply(tokens, token, memory, purpose)


def combine(rows: Tensor, token: Tensor, num_tokens: int, memory: KeptMemory | None = None) -> Tensor:
    """rows [S, D] of tokens [S] -> [num_tokens, D]: the sum over each token's rows, zero for a token without any.

    memory: where the gradient of rows is put, if there is one.
    """
    return _Combine.apply(rows, token, num_tokens, memory)


class _Gather(torch.autograd.Function):
    """Each of the two is the other's gradient. Autograd's own for a gather adds row after row, with atomics on a GPU;
    here every token's rows are found first and summed in their order, which is faster and always the same sum."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, token: Tensor, memory: KeptMemory | None, purpose: str) -> Tensor:
        ctx.save_for_backward(token)
        ctx.num_tokens = len(tokens)
        rows = empty(memory, purpose, tokens, len(token), tokens.shape[1])
        return torch.index_select(tokens, 0, token, out=rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (token,) = ctx.saved_tensors
        return combine(grad, token, ctx.num_tokens), None, None, None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, token: Tensor, num_tokens: int, memory: KeptMemory | None) -> Tensor:
        ctx.save_for_backward(token)
        ctx.memory = memory
        rows_per_token = torch.bincount(token, minlength=num_tokens)
        first_row = rows_per_token.cumsum(0) - rows_per_token
        return F.embedding_bag(token.argsort(stable=True), rows, first_row, mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (token,) = ctx.saved_tensors
        return gather(grad, token, ctx.memory, "gradient of the result"), None, None, None
