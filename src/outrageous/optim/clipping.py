"""The norm of gradients, and their scaling, where some are sparse: PyTorch's own functions take dense ones only."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def gradients_of(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """The numbers of all gradients there are; of a sparse one its rows, each once: several look-ups of a row are added
    up in place, since the norm is that of their sum."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values())
        elif parameter.grad is not None:
            gradients.append(parameter.grad)
    return gradients


def scale_to_norm(gradients: list[Tensor], max_norm: float, norm: Tensor) -> None:
    """Scales gradients of this norm, over all together, down to `max_norm`, in place; smaller ones stay as they are."""
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
