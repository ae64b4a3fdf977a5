"""What a GPU has and a CPU has not, as far as memory goes: so that a step can be tried without one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from outrageous.models.lstm import LSTM
from outrageous.moe.part import BatchPart

NUMBERS_OF_UNIT = 6  # kept: four gates, the cell before and after tanh
NUMBERS_AT_WORK = 4  # while a pass lasts: the inputs' part of all gates, or its gradient, one product for all words


class GpuPart(BatchPart):
    """A whole batch, whose dropout is a GPU's, which keeps a byte for each number."""

    def dropout(self, x: Tensor, p: float) -> Tensor:
        return torch.native_dropout(x, p, True)[0]


class ImaginedPart(GpuPart):
    """A whole batch whose numbers nobody knows."""

    def counts(self, rows: Tensor, total: int) -> list[int]:
        """As even as can be."""
        even, more = divmod(total, len(rows))
        return [even + 1] * more + [even] * (len(rows) - more)


def imagine_lstms(model: nn.Module) -> None:
    """From now on the model's LSTMs take the memory that cuDNN's do, in the dtype of computation, and give zeros.

    What cuDNN keeps and works with is not documented: it is taken to be NUMBERS_OF_UNIT and NUMBERS_AT_WORK for each
    unit and word.
    """
    for module in model.modules():
        if isinstance(module, LSTM):
            module.forward = _imagined(module)  # type: ignore[method-assign, assignment]


def _imagined(layer: LSTM) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        out: Tensor = layer.projection(_ImaginedLSTM.apply(x, layer.d_model, layer.num_units, *layer.lstm.parameters()))
        return out

    return forward


class _ImaginedLSTM(torch.autograd.Function):
    """x [B, L, in] -> [B, L, D]. Zeros, since memory that nobody writes to is not taken either."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, d_model: int, num_units: int, *weights: Tensor) -> Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        x, *copies = (tensor.to(dtype) for tensor in (x, *weights))
        out = x.new_zeros(*x.shape[:2], d_model)
        kept = x.new_zeros(*x.shape[:2], NUMBERS_OF_UNIT * num_units)
        _work(x, num_units)
        ctx.num_units = num_units
        ctx.save_for_backward(x, out, kept, *copies)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, _, _, *weights = ctx.saved_tensors
        _work(x, ctx.num_units)
        return torch.zeros_like(x), None, None, *(torch.zeros_like(weight) for weight in weights)


def _work(x: Tensor, num_units: int) -> None:
    """Takes the memory of a pass, and gives it back."""
    x.new_zeros(*x.shape[:2], NUMBERS_AT_WORK * num_units)
