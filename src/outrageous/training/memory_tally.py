"""Memory of tensors, added up as they come and go."""

import weakref
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tally(TorchDispatchMode):
    """Of all tensors that operations within it return, fake ones too. What an operation needs beside them meanwhile is
    not seen.

    Attributes:
        now: bytes of those that are alive.
        peak: the most bytes at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def start_again(self) -> None:
        """Forgets the peak so far."""
        self.peak = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and not leaf.is_sparse:
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: UntypedStorage) -> None:
        address = storage._cdata  # the same for all tensors that share it
        if address not in self._alive:
            self._alive.add(address)
            num_bytes = storage.nbytes()
            self.now += num_bytes
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, address, num_bytes)

    def _drop(self, address: int, num_bytes: int) -> None:
        self._alive.remove(address)
        self.now -= num_bytes
