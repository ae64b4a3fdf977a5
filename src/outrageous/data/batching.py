"""Batches of whole sentences: up to a budget of words, sentences of like length together, for any number of ranks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from outrageous.data.batch_sampler import BatchSampler
from outrageous.data.loading import WordBatch, loader_of, places_of
from outrageous.data.packing import PackedSentences

SORTED_AT_ONCE = 1 << 20  # sentences
# Of a batch, padding included, for each word of its budget. So the longest sentences of a corpus, which no others are
# like, do not make the batch that they are in take several times the memory of the rest.
MOST_PLACES = 1.1


@dataclass(frozen=True)
class Batch(WordBatch):
    """B whole sentences, the longest of L predicted tokens (its words and `</s>`).

    Numbers are int32 where batches are made, half the bytes to hand over, and int64 where they are used.

    Attributes:
        inputs: [B, L], each row starts with `<s>`.
        targets: [B, L], the token to predict at each place; a row ends with `</s>` and is padded with it.
        mask: bool [B, L], true where `targets` counts.
        words: [W], where `mask.flatten()` is true, rising: known here, so that nobody has to ask a device.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    words: Tensor

    def padding_only(self) -> Batch:
        """The same batch with no word that counts."""
        return replace(self, mask=torch.zeros_like(self.mask), words=self.words[:0])


class SentenceDataset(Dataset[Batch]):
    """Packed sentences, indexed by many at once: `dataset[indices]` is the `Batch` of these, in that order. Of none it
    is one sentence of nothing but padding: models need a sentence to compute with."""

    def __init__(self, sentences: PackedSentences) -> None:
        self.sentences = sentences

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, indices: NDArray[np.integer]) -> Batch:
        if not len(indices):
            return self[np.zeros(1, np.int64)].padding_only()
        targets = self.sentences.gather(indices).astype(np.int32)  # [B, L]
        inputs = np.empty_like(targets)
        inputs[:, 0] = self.sentences.bos_id
        inputs[:, 1:] = targets[:, :-1]
        lengths = self.sentences.lengths[indices]
        mask = np.arange(targets.shape[1]) < lengths[:, None]
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(mask), places_of(mask))


class BudgetBatchSampler(BatchSampler):
    """Index arrays of batches of at most `words_per_batch` predicted tokens, and a tenth more places, padding included;
    every sentence comes once in an epoch.

    Sentences are ordered by length, the longest first, and cut into batches; each epoch draws which sentences of the
    same length go together. Only lengths decide where the cuts are, so every epoch has the same padding. No sentence is
    shortened or left out: one longer than the budget is a batch of its own.
    """

    def __init__(
        self,
        lengths: NDArray[np.integer],
        words_per_batch: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Plan the batches of sentences of these lengths (predicted tokens).

        Raises:
            UserError: `words_per_batch` is not positive.
        """
        self._lengths = lengths
        super().__init__(
            words_per_batch,
            lambda budget: _cut(np.sort(lengths)[::-1], budget),
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )

    def _order(self, generator: np.random.Generator | None) -> NDArray[np.int32]:
        sentences = np.arange(len(self._lengths), dtype=np.int32)  # half the memory of int64, and 2 billion are enough
        if generator is not None:
            generator.shuffle(sentences)  # ties in a new order
        return longest_first(self._lengths, sentences)

    def padding_fraction(self) -> float:
        """The same in every epoch."""
        longest = np.sort(self._lengths)[::-1][self._cuts[:-1]]  # of each batch
        places = np.sum(longest * np.diff(self._cuts), dtype=np.int64)
        return float(1 - self._lengths.sum(dtype=np.int64) / places)


def make_loader(
    sentences: PackedSentences,
    words_per_batch: int,
    *,
    shuffle: bool,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    for_gpu: bool = False,
) -> DataLoader[Batch]:
    """A loader of `Batch`es whose `sampler` is a `BudgetBatchSampler` (`set_epoch`, `start_batch`, `padding_fraction`).
    for_gpu: made ahead by processes of their own, in page-locked memory.

    Raises:
        UserError: `words_per_batch` is too small.
    """
    sampler = BudgetBatchSampler(
        sentences.lengths, words_per_batch, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size
    )
    return loader_of(SentenceDataset(sentences), sampler, for_gpu)


def longest_first(lengths: NDArray[np.integer], order: NDArray[np.int32]) -> NDArray[np.int32]:
    """`order`, which holds numbers of sentences, sorted by falling length; those of one length stay in their order.

    A counting sort in slices: beside its result it holds a few megabytes, where an argsort of a billion words'
    sentences would hold hundreds.
    """
    result = np.empty_like(order)
    if not len(order):
        return result
    longest = int(lengths.max())
    slices = [order[start : start + SORTED_AT_ONCE] for start in range(0, len(order), SORTED_AT_ONCE)]
    counts = np.sum([np.bincount(lengths[part], minlength=longest + 1) for part in slices], axis=0)
    place = np.cumsum(counts[::-1])[::-1] - counts  # of each length's next sentence: behind all that are longer
    kind = np.min_scalar_type(longest)  # numbers of at most 16 bits are sorted several times as fast
    for part in slices:
        keys = lengths[part].astype(kind)
        by_length = np.argsort(keys, kind="stable")
        counts = np.bincount(keys, minlength=longest + 1)
        rank = np.arange(len(part)) - np.repeat(np.cumsum(counts) - counts, counts)  # among those of its length
        result[place[keys[by_length]] + rank] = part[by_length]
        place += counts
    return result


def _cut(lengths: NDArray[np.integer], budget: int) -> NDArray[np.int64]:
    """Cut a sequence of falling lengths into runs that sum to at most `budget` and, as many times the first of them,
    to at most MOST_PLACES · budget, or of one: the bounds [runs + 1]."""
    total = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=total[1:])
    cuts = [0]
    while cuts[-1] < len(lengths):
        start = cuts[-1]
        end = int(np.searchsorted(total, total[start] + budget, side="right")) - 1
        most = int(MOST_PLACES * budget) // max(1, int(lengths[start]))
        cuts.append(max(min(end, start + most), start + 1))
    return np.array(cuts)
