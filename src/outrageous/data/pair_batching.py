"""Batches of pairs: up to a budget of words of both sides, pairs of like lengths together, for any number of ranks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from outrageous.data.batch_sampler import BatchSampler
from outrageous.data.loading import loader_of
from outrageous.data.packed_pairs import PackedPairs
from outrageous.data.pair_dataset import PairBatch, PairDataset

Lengths = NDArray[np.int32]


class PairBatchSampler(BatchSampler):
    """Index arrays of batches of at most `words_per_batch` places: pairs × (longest source + longest target).

    An epoch is a row of places for pairs. A direction of weight 1 has one for each of its pairs; of weight 2, two; of
    weight ½, one for each two that are neighbours in length, and each epoch draws anew which of them takes it. Places
    of like lengths on both sides stand together and are cut into batches; each epoch draws which pairs of like lengths
    go together. The cuts depend on lengths and weights only. A pair larger than the budget is a batch of its own.
    """

    def __init__(
        self,
        pairs: PackedPairs,
        words_per_batch: int,
        *,
        weights: Mapping[str, float] | None = None,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Plan the batches.

        Args:
            weights: of each direction, how often a pair of it comes in an epoch, on average; without, once.

        Raises:
            UserError: `words_per_batch` is not positive.
        """
        self._lengths = np.stack([pairs.source.lengths, pairs.target.lengths])  # [2, pairs]
        self._candidates, self._first, self._num, bounds = _places(self._lengths, pairs.rows_of, weights or {})
        self._kind = np.cumsum(np.any(np.diff(bounds, prepend=0), axis=0))  # equal where places are alike
        super().__init__(
            words_per_batch,
            lambda budget: _cut(bounds, budget),
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )

    def _order(self, generator: np.random.Generator | None) -> NDArray[np.int64]:
        if generator is None:
            return self._candidates[self._first]
        drawn = (generator.random(len(self._num)) * self._num).astype(np.int64)
        shuffled = generator.permutation(len(self._num))
        order = shuffled[np.argsort(self._kind[shuffled], kind="stable")]  # places alike in a new order
        return self._candidates[self._first + drawn][order]

    def padding_fraction(self) -> float:
        """Both sides together."""
        lengths = self._lengths[:, self._order(self._generator())]
        longest = np.maximum.reduceat(lengths, self._cuts[:-1], axis=1)  # [2, batches]
        places = np.sum(longest * np.diff(self._cuts), dtype=np.int64)
        return float(1 - lengths.sum(dtype=np.int64) / places)


def make_pair_loader(
    pairs: PackedPairs,
    words_per_batch: int,
    *,
    weights: Mapping[str, float] | None = None,
    shuffle: bool,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    for_gpu: bool = False,
) -> DataLoader[PairBatch]:
    """A loader of `PairBatch`es; its `sampler` is a `PairBatchSampler`, with `set_epoch` and `start_batch`.
    for_gpu: as in `make_loader`.

    Raises:
        UserError: `words_per_batch` is too small.
    """
    sampler = PairBatchSampler(
        pairs, words_per_batch, weights=weights, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size
    )
    return loader_of(PairDataset(pairs), sampler, for_gpu)


def _places(
    lengths: Lengths, rows_of: Mapping[str, range], weights: Mapping[str, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Lengths]:
    """The places of an epoch in the order in which they are cut.

    Returns:
        pairs, and for each place [P] the first of them that may take it and how many may; class of lengths [2, P] of
        the longest of these.
    """
    classes = _length_class(lengths)
    candidates: list[NDArray[np.int64]] = []
    first, num, bounds = [], [], []
    for name, rows in rows_of.items():
        pairs = rows.start + _by_length(classes[:, rows.start : rows.stop])
        whole, fraction = divmod(weights.get(name, 1.0), 1)
        at_least = 0 if whole else 1
        for num_places in [len(pairs)] * int(whole) + [max(round(fraction * len(pairs)), at_least)]:
            if num_places and len(pairs):
                starts = np.arange(num_places) * len(pairs) // num_places
                first.append(starts + sum(map(len, candidates)))
                num.append(np.diff(starts, append=len(pairs)))
                bounds.append(np.maximum.reduceat(classes[:, pairs], starts, axis=1))
        candidates.append(pairs)
    all_bounds = np.concatenate(bounds, axis=1)
    order = _by_length(all_bounds)
    return np.concatenate(candidates), np.concatenate(first)[order], np.concatenate(num)[order], all_bounds[:, order]


def _length_class(lengths: Lengths) -> Lengths:
    """Lengths rounded up, by at most an eighth: what counts as alike."""
    step = np.exp2(np.maximum(np.floor(np.log2(lengths)) - 3, 0)).astype(np.int32)
    return -(-lengths // step) * step


def _by_length(bounds: Lengths) -> NDArray[np.int64]:
    """Order by falling length of the target, then by that of the source, falling and rising in turns: neighbours are
    alike on both sides, also where the target's length changes."""
    source, target = bounds
    _, rank = np.unique(target, return_inverse=True)
    return np.lexsort((np.where(rank % 2, source, -source), -target))


def _cut(bounds: Lengths, budget: int) -> NDArray[np.int64]:
    """Cut places into runs of at most `budget` words, padding included, or of one: the ends [runs + 1]."""
    cuts = [0]
    while cuts[-1] < bounds.shape[1]:
        start = cuts[-1]
        most = max(1, budget // int(bounds[:, start].sum()))
        longest = np.maximum.accumulate(bounds[:, start : start + most], axis=1).sum(axis=0)
        fits = np.count_nonzero(longest * np.arange(1, len(longest) + 1) <= budget)
        cuts.append(start + max(1, int(fits)))
    return np.array(cuts)
