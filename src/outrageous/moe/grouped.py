"""Products of rows sorted by group with one matrix for each group."""

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
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
# How many groups it takes at once on a GPU: fewer than the 1,024 threads of a block, each of which prepares one.
MOST_GROUPS = 1023


class GroupSizes:
    """Numbers of rows of N groups, which the device knows. What the host must know of them it asks for where that is
    needed, and once, however many products follow.

    Attributes:
        rows_per_group: [N] int64.
        runs: the same, cut into as few and as even runs of groups as `grouped_mm` can take.
    """

    def __init__(self, rows_per_group: Tensor, num_rows: int) -> None:
        """num_rows: the sum of rows_per_group."""
        self.rows_per_group, self.num_rows = rows_per_group, num_rows
        self.runs = rows_per_group.tensor_split(-(-len(rows_per_group) // MOST_GROUPS))

    @cached_property
    def counts(self) -> list[int]:
        """Of each group. A GPU is waited for."""
        return part_at_hand().counts(self.rows_per_group, self.num_rows)

    @cached_property
    def counts_of_runs(self) -> list[int]:
        """Of all groups of each run. A GPU is waited for."""
        return part_at_hand().counts(torch.stack([run.sum() for run in self.runs]), self.num_rows)


def grouped_linear(rows: Tensor, weight: Tensor, sizes: GroupSizes, memory: KeptMemory | None = None) -> Tensor:
    """rows [S, in], the first of them for group 0 and so on, weight [N, out, in] -> [S, out].

    memory: where the gradient of rows is put, if there is one.
    """
    rows, weight = same_dtype(rows, weight)
    if on_gpu(rows) and rows.dtype == torch.bfloat16 and len(rows):
        return grouped_mm(rows, weight, sizes)
    # In other dtypes PyTorch has no kernel for a GPU either, and goes from group to group, which it is waited for.
    return _GroupedLinear.apply(rows, weight, sizes.counts, memory)


def grouped_mm(rows: Tensor, weight: Tensor, sizes: GroupSizes) -> Tensor:
    """As `grouped_linear`, by PyTorch's kernel for GPUs: numbers of rows stay on the device, which is not waited for
    up to MOST_GROUPS groups.

    More are multiplied run after run, and where a run's rows begin the host must know: it waits, once for all products
    with the same sizes. Without waiting, the rows before a run would have to be a group of its product, and be
    multiplied for nothing.

    The kernel wants aligned rows, so widths are filled up with zeros; groups may have any number of rows.
    """
    num_out, num_in = weight.shape[1:]
    multiple = GROUPED_MM_ALIGNMENT // rows.element_size()
    fill_in, fill_out = -num_in % multiple, -num_out % multiple
    if fill_in or fill_out:
        rows, weight = F.pad(rows, (0, fill_in)), F.pad(weight, (0, fill_in, 0, fill_out))
    ends = [run.cumsum(0, dtype=torch.int32) for run in sizes.runs]
    if len(ends) == 1:
        return F.grouped_mm(rows, weight.mT, offs=ends[0])[:, :num_out]
    return _GroupedRuns.apply(rows, weight, sizes.counts_of_runs, ends)[:, :num_out]


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


class _GroupedRuns(torch.autograd.Function):
    """rows [S, in], weight [N, out, in], of each run of groups how many rows it has and where each group's end among
    them -> [S, out].

    Each run's product is copied into its place in one result, forward and backward: left to autograd, all runs'
    gradients of weights would be there twice, side by side and joined.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, counts: list[int], ends: list[Tensor]) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.counts, ctx.ends = counts, ends
        out = rows.new_empty(len(rows), weight.shape[1])
        weights = weight.tensor_split(len(counts))
        for x, w, y, offs in zip(rows.split(counts), weights, out.split(counts), ends, strict=True):
            if len(x):
                y.copy_(F.grouped_mm(x, w.mT, offs=offs))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, weight = ctx.saved_tensors
        grad_rows, grad_weight = torch.empty_like(rows), torch.empty_like(weight)
        parts = [tensor.split(ctx.counts) for tensor in (rows, grad_out.contiguous(), grad_rows)]
        weights = [tensor.tensor_split(len(ctx.counts)) for tensor in (weight, grad_weight)]
        for x, dy, dx, w, dw, offs in zip(*parts, *weights, ctx.ends, strict=True):
            if len(x):
                dx.copy_(F.grouped_mm(dy, w, offs=offs))
                dw.copy_(F.grouped_mm(dy.mT, x, offs=offs))
            else:
                dw.zero_()
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
