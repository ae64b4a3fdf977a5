"""Memory that outlives the tensors in it."""

import contextlib
import math
import mmap
import sys

import torch
from torch import Tensor

# What refers to a block that no tensor uses: the dictionary, a local variable, and the argument of getrefcount.
REFERENCES_OF_A_FREE_BLOCK = 3


class KeptMemory:
    """Lends tensors the same memory again and again, where it would otherwise go back to the system and be got afresh.

    On a CPU the system clears every page it hands out, which takes longer than many a product that is written there.
    A block is lent only while no tensor, view or gradient refers to it; otherwise one gets ordinary memory. So nothing
    that anybody still holds is ever overwritten, and gradients may be kept, accumulated, zeroed or dropped as usual.

    Copies and pickles of it are empty.
    """

    def __init__(self) -> None:
        self._blocks: dict[str, mmap.mmap] = {}

    def empty(self, purpose: str, like: Tensor, *shape: int) -> Tensor:
        """Uninitialised, of `like`'s dtype and device; each purpose has a block of its own, as large as was needed."""
        num_bytes = math.prod(shape) * like.element_size()
        if like.device.type != "cpu" or num_bytes == 0:
            return like.new_empty(shape)  # PyTorch's allocators of other devices keep memory themselves
        block = self._blocks.get(purpose)
        if block is not None and sys.getrefcount(block) > REFERENCES_OF_A_FREE_BLOCK:
            return like.new_empty(shape)
        if block is None or len(block) < num_bytes:
            block = self._blocks[purpose] = _map(num_bytes)
        return torch.frombuffer(block, dtype=like.dtype, count=math.prod(shape)).view(shape)

    def __reduce__(self) -> tuple[type["KeptMemory"], tuple[()]]:
        return KeptMemory, ()


def empty(memory: KeptMemory | None, purpose: str, like: Tensor, *shape: int) -> Tensor:
    """From `memory`, if there is one."""
    return like.new_empty(shape) if memory is None else memory.empty(purpose, like, *shape)


def _map(num_bytes: int) -> mmap.mmap:
    # Private: a forked process must not write into its parent's.
    block = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux
        with contextlib.suppress(OSError):  # a kernel without them
            block.madvise(mmap.MADV_HUGEPAGE)
    return block
