"""Whether to compute as a GPU wants it: everything at once, and without asking it for numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_AS_ON_GPU: ContextVar[bool] = ContextVar("compute as on a GPU", default=False)


def on_gpu(tensor: Tensor) -> bool:
    """Whether its numbers are on a GPU, which is not to be waited for. On the meta device they are nowhere, and whoever
    asks for one gets an error: there it shows, without a GPU, whether anybody would wait."""
    return _AS_ON_GPU.get() or tensor.device.type in ("cuda", "meta")


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Within it a CPU computes as a GPU would: to see, without one, whether that is right and what memory it takes."""
    token = _AS_ON_GPU.set(True)
    try:
        yield
    finally:
        _AS_ON_GPU.reset(token)
