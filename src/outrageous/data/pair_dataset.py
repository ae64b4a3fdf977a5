"""Pairs of sentences as tensors: what a translation model is given at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from outrageous.data.loading import WordBatch, places_of
from outrageous.data.packed_pairs import PackedPairs
from outrageous.data.packing import PackedSentences
from outrageous.data.wordpieces import Wordpieces


@dataclass(frozen=True)
class PairBatch(WordBatch):
    """B pairs, the longest source of S wordpieces, the longest target of T; all end with `</s>`, then `<pad>`.

    Numbers are int32 where batches are made and int64 where they are used, as those of a `Batch`.

    Attributes:
        source: [B, S].
        source_mask: bool [B, S], false at padding.
        source_words: where `source_mask.flatten()` is true, rising.
        inputs: [B, T], each row starts with `<s>`.
        targets: [B, T], the wordpiece to predict at each place.
        mask: bool [B, T], true where `targets` counts.
        words: [W], where `mask.flatten()` is true, rising.
    """

    source: Tensor
    source_mask: Tensor
    source_words: Tensor
    inputs: Tensor
    targets: Tensor
    mask: Tensor
    words: Tensor

    def padding_only(self) -> PairBatch:
        """The same batch with no word that counts."""
        masks = {name: torch.zeros_like(getattr(self, name)) for name in ("source_mask", "mask")}
        return replace(self, **masks, source_words=self.source_words[:0], words=self.words[:0])


class PairDataset(Dataset[PairBatch]):
    """Packed pairs, indexed by many at once: `dataset[indices]` is the `PairBatch` of these, in that order. Of none it
    is one pair of nothing but padding: models need a pair to compute with."""

    def __init__(self, pairs: PackedPairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, indices: NDArray[np.integer]) -> PairBatch:
        if not len(indices):
            return self[np.zeros(1, np.int64)].padding_only()
        source, source_mask = _padded(self.pairs.source, indices)
        targets, mask = _padded(self.pairs.target, indices)
        inputs = np.where(mask, np.roll(targets, 1, axis=1), Wordpieces.pad_id)
        inputs[:, 0] = Wordpieces.bos_id
        return PairBatch(
            torch.from_numpy(source),
            torch.from_numpy(source_mask),
            places_of(source_mask),
            torch.from_numpy(inputs),
            torch.from_numpy(targets),
            torch.from_numpy(mask),
            places_of(mask),
        )


def _padded(sentences: PackedSentences, indices: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Sentences as rows [B, L], `<pad>` behind them, and where they are not padding."""
    rows = sentences.gather(indices)
    mask = np.arange(rows.shape[1]) < sentences.lengths[indices][:, None]
    return np.where(mask, rows, Wordpieces.pad_id).astype(np.int32), mask
