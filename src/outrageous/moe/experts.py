"""Banks of N experts, which map rows sorted by expert: `(rows [S, D], tokens_per_expert [N]) -> rows [S, D]`."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class FeedForwardExperts(nn.Module):
    """N feed-forward networks `D → H → … → H → D` with ReLU between, and no biases (§3.2; the paper's parameter counts
    only come out right without them).

    Each weight is held as [N, width out, width in], the layout of `nn.Linear`, and drawn like one from
    U(-1/√width_in, 1/√width_in); the paper does not name its initialisation.
    """

    def __init__(self, num_experts: int, d_model: int, d_hidden: int | Sequence[int]) -> None:
        """d_hidden: width of the hidden layer, or of each of several. Raises ValueError if a size is not positive."""
        super().__init__()
        hidden = [d_hidden] if isinstance(d_hidden, int) else list(d_hidden)
        if num_experts < 1 or d_model < 1 or not hidden or min(hidden) < 1:
            raise ValueError(f"{num_experts=}, {d_model=}, {d_hidden=}: all sizes must be at least 1")
        self.num_experts, self.d_model, self.d_hidden = num_experts, d_model, tuple(hidden)
        widths = [d_model, *hidden, d_model]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(num_experts, out, in_)) for in_, out in pairwise(widths)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight in self.weights:
            nn.init.uniform_(weight, -(weight.shape[2] ** -0.5), weight.shape[2] ** -0.5)

    def forward(self, rows: Tensor, tokens_per_expert: Tensor) -> Tensor:
        """rows [S, D], the first tokens_per_expert[0] of them for expert 0 and so on -> [S, D] in the same order."""
        counts = tokens_per_expert.tolist()
        *hidden, last = self.weights
        for weight in hidden:
            rows = _GroupedLinear.apply(rows, weight, counts).relu()
        return _GroupedLinear.apply(rows, last, counts)

    def extra_repr(self) -> str:
        return f"num_experts={self.num_experts}, d_model={self.d_model}, d_hidden={self.d_hidden}"


class _GroupedLinear(torch.autograd.Function):
    """rows [S, in], weight [N, out, in], counts of rows per expert -> [S, out]: each expert's rows times its matrix.

    Products are written straight into their place in one result, forward and backward. Left to autograd, the same loop
    would build 3·N nodes and allocate as many tensors, which costs more than small products themselves.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, counts: list[int]) -> Tensor:
        rows, weight = _same_dtype(rows, weight)
        ctx.save_for_backward(rows, weight)
        ctx.counts = counts
        out = rows.new_empty(rows.shape[0], weight.shape[1])
        for x, w, y in zip(rows.split(counts), weight.unbind(0), out.split(counts), strict=True):
            torch.mm(x, w.t(), out=y)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight = ctx.saved_tensors
        grad_rows, grad_weight = torch.empty_like(rows), torch.empty_like(weight)
        parts = [tensor.split(ctx.counts) for tensor in (rows, grad_out, grad_rows)]
        for x, dy, dx, w, dw in zip(*parts, weight.unbind(0), grad_weight.unbind(0), strict=True):
            torch.mm(dy, w, out=dx)
            torch.mm(dy.t(), x, out=dw)  # zeros for an expert without rows
        return grad_rows, grad_weight, None


def _same_dtype(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Under autocast, both in the compute dtype, as `nn.Linear` would have them."""
    if torch.is_autocast_enabled(rows.device.type):
        dtype = torch.get_autocast_dtype(rows.device.type)
        return rows.to(dtype), weight.to(dtype)
    return rows, weight
