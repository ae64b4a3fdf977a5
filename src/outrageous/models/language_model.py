"""The language model of §5.1 and appendix C: embedding → LSTM → MoE → sigmoid → LSTM → softmax, and its baselines.

Axes: B sentences, L longest sentence, T words that are not padding, D d_model, V vocabulary.
"""

from torch import Tensor, nn

from outrageous.config import LanguageModelConfig, Layer
from outrageous.models.dropout import Dropout
from outrageous.models.lstm import LSTM
from outrageous.models.mixture import at_words, build_moe, mix, words_of
from outrageous.models.sampled_softmax import VocabularySoftmax
from outrageous.moe import MoE, MoEReport


class LanguageModel(nn.Module):
    """After every layer but the softmax: dropout, then the layer's input is added. The MoE's output passes a sigmoid
    before its dropout (appendix C). The embedding is drawn from N(0, 1/D); the paper does not name its initialisation.
    """

    def __init__(self, config: LanguageModelConfig, vocabulary_size: int) -> None:
        """Raises ValueError if a size does not fit, or an MoE layer has no settings."""
        super().__init__()
        if not 0 <= config.dropout < 1:
            raise ValueError(f"dropout={config.dropout}: must lie in [0, 1)")
        if (Layer.moe in config.layers) != (config.moe is not None):
            raise ValueError(
                f"layers={[layer.name for layer in config.layers]} and moe={config.moe} contradict each other"
            )
        self.config = config
        self.embedding = nn.Embedding(vocabulary_size, config.d_model)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)
        self.layers = nn.ModuleList(self._build(layer) for layer in config.layers)
        self.softmax = VocabularySoftmax(vocabulary_size, config.d_model, config.num_sampled)
        self.dropout = Dropout(config.dropout)

    def _build(self, layer: Layer) -> nn.Module:
        if layer is Layer.lstm:
            return LSTM(self.config.d_model, self.config.lstm_units, self.config.project_lstm)
        assert self.config.moe is not None
        return build_moe(self.config.moe, self.config.d_model)

    def forward(self, inputs: Tensor, mask: Tensor, words: Tensor | None = None) -> tuple[Tensor, list[MoEReport]]:
        """
        Args:
            inputs: [B, L] int64, the word before each predicted one; padding at the end of sentences.
            mask: [B, L] bool, False at padding.
            words: [T] int64, where the flattened mask is true; None: looked for, for which a GPU is waited.

        Returns:
            hidden [T, D], the softmax's input at the unmasked words in reading order, and one report for each MoE.
        """
        words = words_of(mask) if words is None else words
        reports = []
        x = self.dropout(self.embedding(inputs))  # [B, L, D]
        for layer in self.layers:
            if isinstance(layer, MoE):
                out, report = mix(layer, x, mask, words)
                reports.append(report)
            else:
                out = layer(x)
            x = x + self.dropout(out)
        return at_words(x, words), reports
