"""Banks of which some experts only are wanted: the others belong to somebody else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

Kept = Callable[[int], slice]


def _all(num_experts: int) -> slice:
    return slice(0, num_experts)


_KEPT: ContextVar[Kept] = ContextVar("experts that are kept", default=_all)


@contextmanager
def keeping(experts: Kept) -> Iterator[None]:
    """Banks of N experts that are built within have the weights of experts(N) alone. These, and all that is drawn after
    them, are as in a whole bank: the others are drawn too, one by one, and forgotten."""
    token = _KEPT.set(experts)
    try:
        yield
    finally:
        _KEPT.reset(token)


def kept(num_experts: int) -> slice:
    """Those to be kept of so many."""
    return _KEPT.get()(num_experts)


def draw(weight: Tensor, num_experts: int, draw_into: Callable[[Tensor], object]) -> None:
    """Draws weight [experts kept, ...] of a bank of so many."""
    here = kept(num_experts)
    one = weight.new_empty(weight.shape[1:])
    for _ in range(here.start):
        draw_into(one)
    draw_into(weight)
    for _ in range(num_experts - here.stop):
        draw_into(one)
