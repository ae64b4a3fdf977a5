"""The gradient's norm, which has to be finite, looked at without keeping a GPU waiting."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from outrageous.errors import UserError
from outrageous.moe.device import on_gpu


@dataclass(frozen=True)
class _Norm:
    """Of one step. copied: when the number has come from a GPU."""

    number: Tensor
    step: int
    learning_rate: float
    copied: torch.cuda.Event | None

    def value(self) -> float:
        if self.copied is not None:
            self.copied.synchronize()
        return self.number.item()


class NormWatch:
    """On a CPU a norm is looked at before the weights are updated. On a GPU that would be to wait for the backward pass
    and leave it idle meanwhile: there it is looked at a step later, when it has come. Nothing is saved in between, for
    before a checkpoint there is an evaluation, which wants finite perplexities."""

    def __init__(self) -> None:
        self._latest: _Norm | None = None

    def look(self, norm: Tensor, step: int, learning_rate: float, advice: str) -> float:
        """norm: a scalar, of the gradients of this step -> its value, on a GPU that of the step before, NaN at first.

        Raises UserError, ending with the advice, if that is not finite.
        """
        copied = torch.cuda.Event() if norm.is_cuda else None
        seen: _Norm | None = _Norm(norm.to("cpu", non_blocking=True), step, learning_rate, copied)
        if copied is not None:
            copied.record()
        what_of_it = "nothing was updated"
        if on_gpu(norm):
            seen, self._latest = self._latest, seen
            what_of_it = "nothing was saved since"
        value = math.nan if seen is None else seen.value()
        if seen is not None and not math.isfinite(value):
            raise UserError(
                f"the gradient's norm is {value} at step {seen.step}, with learning rate {seen.learning_rate:.3g}; "
                f"{what_of_it}. {advice}"
            )
        return value
