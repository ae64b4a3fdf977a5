"""Products of rows sorted by group with one matrix for each group."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from outrageous.moe.memory import KeptMemory, empty

# Of what torch.nn.functional.grouped_mm computes on a GPU; its rows must start at multiples of so many bytes.
GROUPED_MM_DTYPES = {torch.bfloat16, torch.float16, torch.float32}
GROUPED_MM_ALIGNMENT = 16


def grouped_linear(rows: Tensor, weight: Tensor, rows_per_group: Tensor, memory: KeptMemory | None = None) -> Tensor:
    """rows [S, in], the first rows_per_group[0] of them for group 0 and so on, weight [N, out, in] -> [S, out].

    memory: where the gradient of rows is put, if there is one.
    """
    rows, weight = same_dtype(rows, weight)
    if rows.is_cuda and rows.dtype in GROUPED_MM_DTYPES and len(rows):
        return grouped_mm(rows, weight, rows_per_group)
    return _GroupedLinear.apply(rows, weight, rows_per_group.tolist(), memory)


def grouped_mm(rows: Tensor, weight: Tensor, rows_per_group: Tensor) -> Tensor:
    """As `grouped_linear`, by PyTorch's kernel for GPUs: numbers of rows stay on the device, which is never waited for.

    The kernel wants aligned rows, so widths are filled up with zeros; groups may have any number of rows.
    """
    num_out, num_in = weight.shape[1:]
    multiple = GROUPED_MM_ALIGNMENT // rows.element_size()
    fill_in, fill_out = -num_in % multiple, -num_out % multiple
    if fill_in or fill_out:
        rows, weight = F.pad(rows, (0, fill_in)), F.pad(weight, (0, fill_in, 0, fill_out))
    ends = rows_per_group.cumsum(0, dtype=torch.int32)
    return F.grouped_mm(rows, weight.mT, offs=ends)[:, :num_out]


class _GroupedLinear(torch.autograd.Function):
    """rows [S, in], weight [N, out, in], counts of rows per expert -> [S, out]: each expert's rows times its matrix.

    Products are written straight into their place in one result, forward and backward. Left to autograd, the same loop
    would build 3·N nodes and allocate as many tensors, which costs more than small products themselves.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, counts: list[int], memory: KeptMemory | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.counts, ctx.memory = counts, memory
        out = rows.new_empty(rows.shape[0], weight.shape[1])
        for x, w, y in zip(rows.split(counts), weight.unbind(0), out.split(counts), strict=True):
            torch.mm(x, w.t(), out=y)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, weight = ctx.saved_tensors
        grad_rows = empty(ctx.memory, "gradient by the groups", rows, *rows.shape)
        grad_weight = weight.new_empty(weight.shape)  # contiguous, which costs half, whatever the weight's strides are
        parts = [tensor.split(ctx.counts) for tensor in (rows, grad_out, grad_rows)]
        for x, dy, dx, w, dw in zip(*parts, weight.unbind(0), grad_weight.unbind(0), strict=True):
            torch.mm(dy, w, out=dx)
            torch.mm(dy.t(), x, out=dw)  # zeros for an expert without rows
        return grad_rows, grad_weight, None, None


def same_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Under autocast, all in its dtype, as `nn.Linear` would have them."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
