"""Memory that outlives the tensors in it."""

import contextlib
import math
import mmap
import threading
import weakref

import torch
from torch import Tensor

from outrageous.moe.device import on_gpu


class KeptMemory:
    """Lends tensors the same memory again and again, where it would otherwise go back to the system and be got afresh.

    On a CPU the system clears every page it hands out, which takes longer than many a product that is written there.
    A block is lent only while no tensor, view or gradient refers to it; otherwise one gets ordinary memory. So nothing
    that anybody still holds is ever overwritten, in whatever thread, and gradients may be kept, accumulated, zeroed or
    dropped as usual.

    Copies and pickles of it are empty.
    """

    def __init__(self) -> None:
        self._blocks: dict[str, mmap.mmap] = {}
        self._lent: dict[str, weakref.ref[memoryview]] = {}  # alive as long as any tensor refers to the block
        self._lock = threading.Lock()

    def empty(self, purpose: str, like: Tensor, *shape: int) -> Tensor:
        """Uninitialised, of `like`'s dtype and device; each purpose has a block of its own, as large as was needed."""
        num_bytes = math.prod(shape) * like.element_size()
        if on_gpu(like) or num_bytes == 0:
            return like.new_empty(shape)  # PyTorch's allocators of other devices keep memory themselves
        with self._lock:
            if purpose in self._lent and self._lent[purpose]() is not None:
                return like.new_empty(shape)
            if purpose not in self._blocks or len(self._blocks[purpose]) < num_bytes:
                self._blocks[purpose] = _map(num_bytes)
            view = memoryview(self._blocks[purpose])
            self._lent[purpose] = weakref.ref(view)
        return torch.frombuffer(view, dtype=like.dtype, count=math.prod(shape)).view(shape)

    def __reduce__(self) -> tuple[type["KeptMemory"], tuple[()]]:
        return KeptMemory, ()


def empty(memory: KeptMemory | None, purpose: str, like: Tensor, *shape: int) -> Tensor:
    """From `memory`, if there is one."""
    return like.new_empty(shape) if memory is None else memory.empty(purpose, like, *shape)


def _map(num_bytes: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows, where no process is forked
        return mmap.mmap(-1, num_bytes)
    # Private: a forked process must not write into its parent's.
    block = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux
        with contextlib.suppress(OSError):  # a kernel without them
            block.madvise(mmap.MADV_HUGEPAGE)
    return block
