"""Products of rows sorted by group with one matrix for each group."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def grouped_linear(rows: Tensor, weight: Tensor, rows_per_group: Tensor) -> Tensor:
    """rows [S, in], the first rows_per_group[0] of them for group 0 and so on, weight [N, out, in] -> [S, out]."""
    return _GroupedLinear.apply(rows, weight, rows_per_group.tolist())


class _GroupedLinear(torch.autograd.Function):
    """rows [S, in], weight [N, out, in], counts of rows per expert -> [S, out]: each expert's rows times its matrix.

    Products are written straight into their place in one result, forward and backward. Left to autograd, the same loop
    would build 3·N nodes and allocate as many tensors, which costs more than small products themselves.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, counts: list[int]) -> Tensor:
        rows, weight = same_dtype(rows, weight)
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


def same_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Under autocast, all in its dtype, as `nn.Linear` would have them."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
