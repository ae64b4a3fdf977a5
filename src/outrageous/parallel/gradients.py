"""Gradients of what all processes have, summed over them: in few calls, and without what is zero everywhere."""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from outrageous.parallel.processes import Processes

ELEMENTS_PER_BUCKET = 2**18  # from here on a call costs less than to copy what is summed, there and back


def sum_in_place(gradients: Sequence[Tensor], tables: Sequence[Tensor], processes: Processes) -> None:
    """Sums each of them over processes; of the same shapes and in the same order everywhere.

    tables: gradients [V, D] of which a batch uses some rows: the others are zeros, and stay at home.
    """
    if processes.size == 1:
        return
    used = _used_rows(tables, processes)
    rows = [
        table if chosen is None else table.index_select(0, chosen) for table, chosen in zip(tables, used, strict=True)
    ]
    for bucket in buckets([*gradients, *rows]):
        _sum_together(bucket)
    for table, chosen, summed in zip(tables, used, rows, strict=True):
        if chosen is not None:
            table.index_copy_(0, chosen, summed)


def buckets(gradients: Iterable[Tensor]) -> list[list[Tensor]]:
    """Runs of gradients of one dtype that are summed together; a large one alone, where it lies."""
    runs: dict[torch.dtype, list[Tensor]] = {}  # those that are not full yet
    result: list[list[Tensor]] = []
    for gradient in gradients:
        if gradient.numel() >= ELEMENTS_PER_BUCKET:
            result.append([gradient])
            continue
        run = runs.get(gradient.dtype)
        if run is None or sum(each.numel() for each in run) + gradient.numel() > ELEMENTS_PER_BUCKET:
            run = runs[gradient.dtype] = []
            result.append(run)
        run.append(gradient)
    return result


def are_sent_alone(num_used: float, num_rows: int) -> bool:
    """Whether the used rows of a table are: if they are most, the table is summed as it lies."""
    return num_used < num_rows / 2


def _used_rows(tables: Sequence[Tensor], processes: Processes) -> list[Tensor | None]:
    """Of each table the numbers of rows that are not zeros on every process; None for all."""
    if not tables:
        return []
    # No norm: the square of a small element is zero, and PyTorch is slow to find the largest of each row.
    used = torch.cat([table.abs().sum(dim=1) != 0 for table in tables])
    numbers = [part.nonzero().squeeze(1) for part in processes.any(used).split([len(table) for table in tables])]
    return [
        chosen if are_sent_alone(len(chosen), len(table)) else None
        for chosen, table in zip(numbers, tables, strict=True)
    ]


def _sum_together(bucket: list[Tensor]) -> None:
    if len(bucket) == 1 and bucket[0].is_contiguous():
        dist.all_reduce(bucket[0])
        return
    flat = torch.cat([gradient.flatten() for gradient in bucket])
    dist.all_reduce(flat)
    for gradient, part in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
        gradient.copy_(part.view_as(gradient))
