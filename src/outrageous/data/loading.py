"""How batches, of sentences and of pairs, get from the corpus to the device that uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from outrageous.data.batch_sampler import BatchSampler

B = TypeVar("B")

# One core makes some 3 million words a second ready (`outrageous-bench batching`), a GPU is to train on 2 million, and
# the process that feeds it has other things to do.
WORKERS_FOR_GPU = 2


class WordBatch:
    """What batches of sentences and of pairs, both dataclasses, have in common.

    Attributes:
        targets: [B, L], the word to predict at each place.
        words: [W], the places in `targets.flatten()` that count, rising: known here, so nobody has to ask a device.
    """

    targets: Tensor
    words: Tensor

    @property
    def num_tokens(self) -> int:
        """W, predicted words."""
        return len(self.words)

    @property
    def predicted(self) -> Tensor:
        """[W], the targets that count, in reading order."""
        return self.targets.flatten().index_select(0, self.words)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same batch on the device that uses it."""
        return self._changed(lambda tensor: _widened(tensor.to(device, non_blocking=non_blocking)))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory, from which copies to a GPU do not wait."""
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        tensors: dict[str, Any] = {name: change(value) for name, value in vars(self).items()}
        return replace(self, **tensors)  # type: ignore[type-var]


def loader_of(dataset: Dataset[B], sampler: BatchSampler, for_gpu: bool) -> DataLoader[B]:
    """Of a dataset that makes a batch of an array of indices. For a GPU batches are made ahead by processes of their
    own and come in page-locked memory; on a CPU cores are for training."""
    return DataLoader(
        dataset,
        batch_size=None,  # an item of the sampler is a whole batch
        sampler=sampler,
        num_workers=WORKERS_FOR_GPU if for_gpu else 0,
        pin_memory=for_gpu,
        persistent_workers=for_gpu,  # a pass does not wait for them to start
        generator=torch.Generator(),  # passes draw a number: from the global generator, a resumed run would differ
    )


def places_of(mask: NDArray[np.bool_]) -> Tensor:
    """Where a flattened mask is true, rising, int32."""
    return torch.from_numpy(np.flatnonzero(mask).astype(np.int32))


def _widened(tensor: Tensor) -> Tensor:
    """Numbers as int64, which look-ups and losses want; masks as they are."""
    return tensor if tensor.dtype == torch.bool else tensor.long()
