"""The processes that train one model together, and what they tell each other."""

from collections.abc import Iterable
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

    def sum(self, x: Tensor) -> Tensor:
        """Over all processes, of the same shape everywhere; differentiable."""
        return x if self.size == 1 else _Sum.apply(x)

    def totals(self, *numbers: float) -> list[float]:
        """Of each number its sum over all processes, in float64: exact for whole numbers."""
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=_device())
        dist.all_reduce(tensor)
        result: list[float] = tensor.tolist()
        return result

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

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Of parameters that all processes have. One without a gradient on some process counts as zeros there."""
        if self.size == 1:
            return
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
            if len(bucket) == 1 and bucket[0].is_contiguous():
                dist.all_reduce(bucket[0])
                continue
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            parts = flat.split([gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))


ELEMENTS_PER_BUCKET = 2**16  # from here on a call costs less than to copy what is summed, there and back


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


def _device() -> torch.device:
    """Where the default group wants its tensors."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Sum.forward(None, grad)


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
