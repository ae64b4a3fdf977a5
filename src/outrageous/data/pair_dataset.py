"""Pairs of sentences as tensors: what a translation model is given at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from outrageous.data.packed_pairs import PackedPairs
from outrageous.data.packing import PackedSentences
from outrageous.data.wordpieces import Wordpieces


@dataclass(frozen=True)
class PairBatch:
    """B pairs, the longest source of S wordpieces, the longest target of T; all end with `</s>`, then `<pad>`.

    Attributes:
        source: int64 [B, S].
        source_mask: bool [B, S], false at padding.
        inputs: int64 [B, T], each row starts with `<s>`.
        targets: int64 [B, T], the wordpiece to predict at each place.
        mask: bool [B, T], true where `targets` counts.
        num_tokens: predicted wordpieces: the true places of `mask`.
    """

    source: Tensor
    source_mask: Tensor
    inputs: Tensor
    targets: Tensor
    mask: Tensor
    num_tokens: int

    def padding_only(self) -> PairBatch:
        """The same batch with no word that counts."""
        nothing = {name: torch.zeros_like(getattr(self, name)) for name in ("source_mask", "mask")}
        return replace(self, **nothing, num_tokens=0)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """The same batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PairBatch:
        """The same batch in page-locked memory, from which copies to a GPU do not wait."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> PairBatch:
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)


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
            torch.from_numpy(inputs),
            torch.from_numpy(targets),
            torch.from_numpy(mask),
            num_tokens=int(mask.sum()),
        )


def _padded(sentences: PackedSentences, indices: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Sentences as rows [B, L], `<pad>` behind them, and where they are not padding."""
    rows = sentences.gather(indices)
    mask = np.arange(rows.shape[1]) < sentences.lengths[indices][:, None]
    return np.where(mask, rows, Wordpieces.pad_id).astype(np.int64), mask
