"""Products of rows sorted by group with one matrix for each group."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from outrageous.moe.device import on_gpu
from outrageous.moe.memory import KeptMemory, empty
from outrageous.moe.part import part_at_hand

# Where rows must start for torch.nn.functional.grouped_mm, in multiples of so many bytes.
GROUPED_MM_ALIGNMENT = 16


def grouped_linear(rows: Tensor, weight: Tensor, rows_per_group: Tensor, memory: KeptMemory | None = None) -> Tensor:
    """rows [S, in], the first rows_per_group[0] of them for group 0 and so on, weight [N, out, in] -> [S, out].

    memory: where the gradient of rows is put, if there is one.
    """
    rows, weight = same_dtype(rows, weight)
    if on_gpu(rows) and rows.dtype == torch.bfloat16 and len(rows):
        return grouped_mm(rows, weight, rows_per_group)
    # In other dtypes PyTorch has no kernel for a GPU either, and goes from group to group, which it is waited for.
    return _GroupedLinear.apply(rows, weight, part_at_hand().counts(rows_per_group, len(rows)), memory)


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


def tiled_linear(rows: Tensor, weight: Tensor, rows_per_group: Tensor, rows_per_tile: int) -> Tensor:
    """As `grouped_linear`, in any dtype and without asking a GPU for numbers of rows, where PyTorch's kernel is for
    bfloat16 alone: all groups' rows, filled up with zeros to whole tiles, in one batched product.

    It copies a group's matrix for each of its tiles: for few groups with small matrices, as gates have.
    """
    num_groups, num_tiles = len(weight), len(rows) // rows_per_tile + len(weight)  # the most there can be
    tiles = (rows_per_group + rows_per_tile - 1).div(rows_per_tile, rounding_mode="floor")  # [N]
    ends, first_row = tiles.cumsum(0), rows_per_group.cumsum(0) - rows_per_group
    group = group_of_row(rows_per_group, len(rows))  # [S]
    place = torch.arange(len(rows), device=rows.device) + (rows_per_tile * (ends - tiles) - first_row)[group]
    group_of_tile = torch.searchsorted(ends, torch.arange(num_tiles, device=rows.device), right=True)
    filled = rows.new_zeros(num_tiles * rows_per_tile, rows.shape[1]).index_copy(0, place, rows)
    matrices = weight[group_of_tile.clamp(max=num_groups - 1)]  # any, for tiles that nobody needs
    out = filled.view(num_tiles, rows_per_tile, -1) @ matrices.mT
    return out.flatten(0, 1).index_select(0, place)


def group_of_row(tokens_per_group: Tensor, num_rows: int) -> Tensor:
    """tokens_per_group [A] -> [S], the group of each of the rows sorted by group."""
    groups = torch.arange(len(tokens_per_group), device=tokens_per_group.device)
    return groups.repeat_interleave(tokens_per_group, output_size=num_rows)


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
    if not is_autocast(tensors[0]):
        return tensors
    dtype = torch.get_autocast_dtype(tensors[0].device.type)
    return tuple(tensor.to(dtype) for tensor in tensors)


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Within it, what is computed on the tensor's device keeps the dtype it has."""
    return torch.autocast(tensor.device.type, enabled=False) if is_autocast(tensor) else nullcontext()


def is_autocast(tensor: Tensor) -> bool:
    """Whether autocast is on, on the tensor's device."""
    device = tensor.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
