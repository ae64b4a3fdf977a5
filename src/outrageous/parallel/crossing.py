"""Rows on their way to the processes that have their experts, and back.

Axes: S rows sent from here, C rows come here; w processes, U units here.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from outrageous.moe.routing import Routing
from outrageous.parallel.processes import Processes
from outrageous.parallel.shards import Shard


class Crossing:
    """From rows sorted by unit, on each process for itself, to those of all processes for the units here."""

    def __init__(
        self, processes: Processes, shards: list[Shard], tokens_per_unit: Tensor, numbers: Tensor | None
    ) -> None:
        """
        Args:
            shards: of each process.
            tokens_per_unit: of this process, for all units.
            numbers: [S] of rows sent, by which rows of one unit are to be sorted; None where their order is all one.
        """
        self._processes = processes
        sizes = [shard.size for shard in shards]
        num_here = sizes[processes.rank]
        counts = processes.exchange(tokens_per_unit, sizes, [num_here] * processes.size).view(-1, num_here)  # [w, U]
        self.rows_per_unit = counts.sum(dim=0)
        sent = torch.stack([part.sum() for part in tokens_per_unit.split(sizes)])
        # In one reading, for which a GPU is waited.
        self._send, self._receive = torch.stack([sent, counts.sum(dim=1)]).tolist()
        units = torch.arange(num_here, device=counts.device)
        arrived = units.repeat(processes.size).repeat_interleave(counts.flatten())  # [C]
        self.numbers = None if numbers is None else processes.exchange(numbers, self._send, self._receive)
        self._order = None if processes.size == 1 else _sorted(arrived, self.numbers)
        self.unit = arrived
        if self._order is not None:
            self._back = _inverse(self._order)
            self.unit = arrived[self._order]
            self.numbers = None if self.numbers is None else self.numbers[self._order]

    def there(self, rows: Tensor) -> Tensor:
        """rows [S, D] -> [C, D], sorted by unit, and by number; differentiable."""
        arrived = self._processes.exchange(rows, self._send, self._receive)
        return arrived if self._order is None else _Permute.apply(arrived, self._order, self._back)

    def back(self, rows: Tensor) -> Tensor:
        """rows [C, D] -> [S, D], in the order in which they were sent; differentiable."""
        if self._order is not None:
            rows = _Permute.apply(rows, self._back, self._order)
        return self._processes.exchange(rows, self._receive, self._send)

    def routing(self, weight: Tensor) -> Routing:
        """Of the rows here, each a token, among the units here; weight [C]. Load is the number of rows."""
        return Routing(
            token=torch.arange(len(weight), device=weight.device),
            expert=self.unit,
            weight=weight,
            tokens_per_expert=self.rows_per_unit,
            importance=weight.new_zeros(len(self.rows_per_unit)).index_add(0, self.unit, weight),
            load=self.rows_per_unit.to(weight.dtype),
            threshold_loss=weight.new_zeros(()),
        )


def _sorted(unit: Tensor, numbers: Tensor | None) -> Tensor:
    """The order by unit, and for one unit by number, or as they came."""
    if numbers is None:
        return unit.argsort(stable=True)
    by_number = numbers.argsort()
    return by_number[unit[by_number].argsort(stable=True)]


def _inverse(order: Tensor) -> Tensor:
    return torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))


class _Permute(torch.autograd.Function):
    """rows [S, ...] in a new order, which names each once: the gradient is looked up too, where others are added up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None
