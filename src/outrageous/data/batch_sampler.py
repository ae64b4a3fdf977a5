"""What samplers of batches have in common: epochs drawn from a seed, a place to go on from, ranks that share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from outrageous.errors import UserError


class BatchSampler(Sampler[NDArray[np.int64]], ABC):
    """Index arrays of batches: the items of an epoch in the order that `_order` gives, cut into batches.

    The cuts are the same in every epoch, so each has as many batches; with `shuffle` the order within an epoch and that
    of its batches are drawn from (seed, epoch).

    Rank r of w takes rows r, r + w, r + 2w … of each batch, perhaps none: the batches of all ranks together do not
    depend on w, and every rank has as many.

    Attributes:
        start_batch: batches that the next pass skips, and only the next: to go on in the middle of an epoch.
    """

    def __init__(
        self,
        words_per_batch: int,
        cut: Callable[[int], NDArray[np.int64]],
        *,
        shuffle: bool,
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        """Plan the batches.

        Args:
            cut: from the most words of a batch, where batches begin, and the end of the last: [batches + 1]. Not kept.

        Raises:
            UserError: `words_per_batch` is not positive.
        """
        assert 0 <= rank < world_size, f"rank {rank} of {world_size}"
        if words_per_batch < 1:
            raise UserError(f"words_per_batch={words_per_batch} must be at least 1")
        self._cuts = cut(words_per_batch)
        self._shuffle = shuffle
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0
        self.start_batch = 0

    @abstractmethod
    def _order(self, generator: np.random.Generator | None) -> NDArray[np.integer]:
        """The items of an epoch in the order in which they are cut, with what is left to chance drawn, if anything."""

    @abstractmethod
    def padding_fraction(self) -> float:
        """Share of the places of all batches of this epoch that are padding (world size 1)."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; without `shuffle` all are alike."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Batches in a whole epoch, also when the next pass skips some."""
        return len(self._cuts) - 1

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        start, self.start_batch = self.start_batch, 0
        assert 0 <= start <= len(self), f"cannot start at batch {start} of {len(self)}"
        generator = self._generator()
        items = self._order(generator)
        batches = np.arange(len(self))
        if generator is not None:
            generator.shuffle(batches)
        for batch in batches[start:]:
            yield items[self._cuts[batch] : self._cuts[batch + 1]][self._rank :: self._world_size].astype(np.int64)

    def _generator(self) -> np.random.Generator | None:
        return np.random.default_rng((self._seed, self._epoch)) if self._shuffle else None
