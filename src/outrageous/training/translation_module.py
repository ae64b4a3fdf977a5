"""The translation model as it is trained."""

from typing import Any

import torch
from torch import Tensor

from outrageous.config import TranslationRunConfig
from outrageous.data.pair_dataset import PairBatch
from outrageous.models.gnmt import TranslationModel
from outrageous.moe import MoEReport
from outrageous.training.supervised_module import AnyBatch, SupervisedModule


class TranslationModule(SupervisedModule):
    """Its loss is the cross-entropy of the target's wordpieces."""

    model: TranslationModel

    def __init__(self, config: TranslationRunConfig, vocabulary_size: int, origin: dict[str, Any]) -> None:
        """Initial weights depend on the seed alone. Raises ValueError if sizes do not fit together."""
        torch.manual_seed(config.seed)
        super().__init__(config, TranslationModel(config.model, vocabulary_size), origin)

    def hidden(self, batch: AnyBatch) -> tuple[Tensor, list[MoEReport]]:
        assert isinstance(batch, PairBatch)
        words = (batch.source_words, batch.words)
        return self.model(batch.source, batch.source_mask, batch.inputs, batch.mask, words)

    def sum_of_word_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return self.model.softmax.loss(hidden, targets, num_words=1)

    def tokens_of_moes(self, batch: AnyBatch) -> list[int]:
        """The encoder's is given source words, the decoder's those of the target."""
        assert isinstance(batch, PairBatch)
        return [len(batch.source_words), batch.num_tokens]
