"""The language model as it is trained."""

from typing import Any

import torch
from torch import Tensor

from outrageous.config import Layer, RunConfig
from outrageous.models.language_model import LanguageModel
from outrageous.moe import MoEReport
from outrageous.training.supervised_module import AnyBatch, SupervisedModule


class LanguageModule(SupervisedModule):
    """Its loss is that of the sampled softmax."""

    model: LanguageModel

    def __init__(self, config: RunConfig, vocabulary_size: int, origin: dict[str, Any]) -> None:
        """Initial weights depend on the seed alone. Raises ValueError if sizes do not fit together."""
        torch.manual_seed(config.seed)
        super().__init__(config, LanguageModel(config.model, vocabulary_size), origin)

    def hidden(self, batch: AnyBatch) -> tuple[Tensor, list[MoEReport]]:
        return self.model(batch.inputs, batch.mask, batch.words)

    def sum_of_word_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return self.model.softmax.sampled_loss(hidden, targets, num_words=1)

    def tokens_of_moes(self, batch: AnyBatch) -> list[int]:
        return [batch.num_tokens] * self.model.config.layers.count(Layer.moe)
