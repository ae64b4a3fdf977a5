"""The processes that train one model together, and what they tell each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Processes:
    """One of `size` processes, of torch.distributed's default group; by default one that is alone, and sends nothing.

    Every method is to be called by all of them, in the same order.
    """

    rank: int = 0
    size: int = 1

    def start_sum(self, x: Tensor) -> "PendingSum":
        """Over all processes, of the same shape everywhere; on its way while there is something else to do."""
        return PendingSum(x, self.size)

    def any(self, marks: Tensor) -> Tensor:
        """marks [...] bool, whether any process has True in its place."""
        if self.size == 1:
            return marks
        result = marks.to(torch.uint8)
        dist.all_reduce(result, dist.ReduceOp.MAX)
        return result.bool()

    def totals(self, *numbers: float | Tensor) -> list[Any]:
        """Of each number its sum over all processes, in float64: exact for whole numbers."""
        return self.start_totals(*numbers)()

    def start_totals(self, *numbers: float | Tensor) -> Callable[[], list[Any]]:
        """The same, on its way until it is asked for."""
        if self.size == 1:
            return lambda: list(numbers)
        started = self.start_sum(torch.tensor(numbers, dtype=torch.float64, device=_device()))
        return lambda: started.result().tolist()

    def exchange(self, rows: Tensor, send: list[int], receive: list[int]) -> Tensor:
        """rows [Σ send, ...], the first send[0] of them for process 0 and so on -> [Σ receive, ...], the first
        receive[0] of them from process 0 and so on; differentiable."""
        return rows if self.size == 1 else _Exchange.apply(rows, send, receive)

    def gather(self, rows: Tensor) -> Tensor:
        """rows [S, ...], of any number on each process -> those of all, in the order of processes; no gradient."""
        if self.size == 1:
            return rows
        counts = self.exchange(
            torch.tensor([len(rows)] * self.size, device=rows.device), [1] * self.size, [1] * self.size
        )
        copies = rows.detach().expand(self.size, *rows.shape).flatten(0, 1)
        return self.exchange(copies, [len(rows)] * self.size, counts.tolist())


def _device() -> torch.device:
    """Where the default group wants its tensors."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


class PendingSum:
    """A sum that has been started, and that nobody waits for before its result is wanted."""

    def __init__(self, x: Tensor, size: int) -> None:
        self._x, self._size = x, size
        if size > 1:
            self._total = x.detach().clone(memory_format=torch.contiguous_format)
            self._work = dist.all_reduce(self._total, async_op=True)

    def result(self) -> Tensor:
        """Differentiable, where all processes make the same of it, each for its share of the loss: its gradient is then
        the same everywhere, and nobody need tell it."""
        if self._size == 1:
            return self._x
        self.wait()
        total: Tensor = _Sum.apply(self._x, self._total, self._size)
        return total

    def wait(self) -> None:
        """Until the others' parts are here; of several processes only."""
        self._work.wait()


class _Sum(torch.autograd.Function):
    """[...] x here and its total, as what x becomes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, total: Tensor, size: int) -> Tensor:
        ctx.size = size
        return total.view_as(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad * ctx.size, None, None


class _Exchange(torch.autograd.Function):
    """`all_to_all_single`, which by itself drops gradients; they go the way back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, send: list[int], receive: list[int]) -> Tensor:
        ctx.send, ctx.receive = send, receive
        received = rows.new_empty(sum(receive), *rows.shape[1:])
        dist.all_to_all_single(received, rows.contiguous(), receive, send)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        returned = grad.new_empty(sum(ctx.send), *grad.shape[1:])
        dist.all_to_all_single(returned, grad.contiguous(), ctx.send, ctx.receive)
        return returned, None, None
