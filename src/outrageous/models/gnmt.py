"""The translation model of §5.3 and appendix E: GNMT made smaller, with an MoE in the encoder and one in the decoder.

    encoder: embedding → two LSTMs → MoE → LSTM
    decoder: embedding → LSTM with attention → MoE → LSTM → softmax

Around every LSTM and MoE a residual; dropout after embeddings, LSTMs and MoEs; a sigmoid after the MoEs. All is d_model
wide. Sources, targets and the softmax have a table of embeddings each, though they share their wordpieces.

Axes: B sentence pairs, L longest source, T longest target, W target words that are not padding, D d_model, V
vocabulary; R sentences that are decoded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from outrageous.config import AttentionKind, TranslationModelConfig
from outrageous.models.attention import AdditiveAttention, Memory, MultiplicativeAttention
from outrageous.models.attentive_lstm import AttentiveLSTM
from outrageous.models.dropout import Dropout
from outrageous.models.lstm import LSTM, LSTMState
from outrageous.models.mixture import at_words, build_moe, mix, words_of
from outrageous.models.sampled_softmax import FullSoftmax
from outrageous.moe import MoE, MoEReport

ATTENTION = {
    AttentionKind.multiplicative: MultiplicativeAttention,
    AttentionKind.additive: AdditiveAttention,
}


@dataclass(frozen=True)
class DecoderState:
    """What the decoder keeps of R sentences between two words."""

    first: LSTMState
    second: LSTMState

    def select(self, rows: Tensor) -> "DecoderState":
        """The states of these sentences, any number of times each; rows [S] int64."""
        return DecoderState(self.first.select(rows), self.second.select(rows))


class Encoder(nn.Module):
    """Three LSTMs, an MoE after the second.

    `bidirectional`, the default: the first two LSTMs read the same words, the second of them from each sentence's end,
    and both are added to the words. The paper counts the LSTMs of GNMT's encoder, whose lowest layer is such a pair, as
    9 where GNMT counts 8 layers; so its own three are a pair and one. Both kinds have the same weights and operations:
    the printed sizes do not tell them apart, but they rule out a pair of half the width, or one that is concatenated.
    """

    def __init__(self, config: TranslationModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.bidirectional = config.bidirectional
        self.embedding = _embedding(vocabulary_size, config.d_model)
        self.lstms = nn.ModuleList(LSTM(config.d_model, config.lstm_units) for _ in range(3))
        self.moe = None if config.moe is None else build_moe(config.moe, config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, source: Tensor, mask: Tensor, words: Tensor) -> tuple[Tensor, list[MoEReport]]:
        """source [B, L] int64, mask [B, L] bool, False at padding, which stands at the end, words [W] as `words_of`
        finds them -> [B, L, D] and the report of the MoE, if there is one."""
        first, second, third = self.lstms
        x = self.dropout(self.embedding(source))
        if self.bidirectional:
            from_end = reverse(second(reverse(x, mask)), mask)
            x = x + self.dropout(first(x)) + self.dropout(from_end)
        else:
            x = x + self.dropout(first(x))
            x = x + self.dropout(second(x))
        x, reports = _mixed(self.moe, x, mask, words, self.dropout)
        return x + self.dropout(third(x)), reports


class Decoder(nn.Module):
    """Two LSTMs, the first with attention, an MoE between them."""

    def __init__(self, config: TranslationModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding = _embedding(vocabulary_size, config.d_model)
        self.first = AttentiveLSTM(config.d_model, config.lstm_units, ATTENTION[config.attention](config.d_model))
        self.moe = None if config.moe is None else build_moe(config.moe, config.d_model)
        self.second = LSTM(config.d_model, config.lstm_units)
        self.dropout = Dropout(config.dropout)

    def forward(self, inputs: Tensor, mask: Tensor, words: Tensor, memory: Memory) -> tuple[Tensor, list[MoEReport]]:
        """inputs [B, T] int64, mask [B, T] bool, words [W] -> [B, T, D] and the report of the MoE, if there is one."""
        x = self.dropout(self.embedding(inputs))
        x = x + self.dropout(self.first(x, memory))
        x, reports = _mixed(self.moe, x, mask, words, self.dropout)
        return x + self.dropout(self.second(x)), reports

    def start(self, num_rows: int) -> DecoderState:
        """The state of R sentences before their first word."""
        return DecoderState(self.first.start(num_rows), self.second.start(num_rows))

    def step(self, inputs: Tensor, state: DecoderState, memory: Memory) -> tuple[Tensor, DecoderState, Tensor]:
        """inputs [R] int64, memory of R sentences -> [R, D], the state after it, and the attention's weights [R, L]."""
        x = self.embedding(inputs)
        out, first, weights = self.first.step(x, state.first, memory)
        x = x + out
        if self.moe is not None:
            x = x + self.moe(x)[0].sigmoid()
        out, second = self.second.step(x, state.second)
        return x + out, DecoderState(first, second), weights


class TranslationModel(nn.Module):
    """For training all words of a target at once, for decoding one after the other; in evaluation both are the same.

    Embeddings are drawn from N(0, 1/D); the paper does not name its initialisation.
    """

    def __init__(self, config: TranslationModelConfig, vocabulary_size: int) -> None:
        """Raises ValueError if a size does not fit."""
        super().__init__()
        if not 0 <= config.dropout < 1:
            raise ValueError(f"dropout={config.dropout}: must lie in [0, 1)")
        self.config = config
        self.encoder = Encoder(config, vocabulary_size)
        self.decoder = Decoder(config, vocabulary_size)
        self.softmax = FullSoftmax(vocabulary_size, config.d_model)

    def forward(
        self,
        source: Tensor,
        source_mask: Tensor,
        inputs: Tensor,
        target_mask: Tensor,
        words: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, list[MoEReport]]:
        """
        Args:
            source: [B, L] int64, none empty; padding at the end of sentences, as in inputs.
            source_mask: [B, L] bool, False at padding.
            inputs: [B, T] int64, the word before each predicted one.
            target_mask: [B, T] bool.
            words: int64, where the flattened masks of source and target are true; None: looked for, for which a GPU is
                waited.

        Returns:
            hidden [W, D], the softmax's input at the unmasked target words in reading order, and one report for each
            MoE, the encoder's first.
        """
        source_words, target_words = words or (words_of(source_mask), words_of(target_mask))
        encoded, of_encoder = self.encoder(source, source_mask, source_words)
        memory = self.decoder.first.attention.remember(encoded, source_mask)
        hidden, of_decoder = self.decoder(inputs, target_mask, target_words, memory)
        return at_words(hidden, target_words), of_encoder + of_decoder

    def start(self, source: Tensor, source_mask: Tensor) -> tuple[DecoderState, Memory]:
        """What decoding these sentences starts from; source and source_mask [R, L] as in `forward`."""
        encoded, _ = self.encoder(source, source_mask, words_of(source_mask))
        return self.decoder.start(len(source)), self.decoder.first.attention.remember(encoded, source_mask)

    def step(self, inputs: Tensor, state: DecoderState, memory: Memory) -> tuple[Tensor, DecoderState, Tensor]:
        """One word of each of R sentences: inputs [R] int64, the word before the predicted one -> log-probabilities
        [R, V], the state after it, and the weights [R, L] with which the source was attended to. In evaluation only."""
        assert not self.training
        hidden, state, weights = self.decoder.step(inputs, state, memory)
        return self.softmax.log_probabilities(hidden), state, weights


def reverse(x: Tensor, mask: Tensor) -> Tensor:
    """x [B, L, D] with each sentence's words in reverse and its padding left where it is; twice is x again."""
    position = torch.arange(x.shape[1], device=x.device).expand_as(mask)
    mirrored = mask.sum(dim=1, keepdim=True) - 1 - position
    return x.gather(1, mirrored.where(mask, position).unsqueeze(2).expand_as(x))


def _embedding(vocabulary_size: int, d_model: int) -> nn.Embedding:
    embedding = nn.Embedding(vocabulary_size, d_model)
    nn.init.normal_(embedding.weight, std=d_model**-0.5)
    return embedding


def _mixed(
    moe: MoE | None, x: Tensor, mask: Tensor, words: Tensor, dropout: nn.Module
) -> tuple[Tensor, list[MoEReport]]:
    """x and what the MoE adds to it, if there is one."""
    if moe is None:
        return x, []
    out, report = mix(moe, x, mask, words)
    return x + dropout(out), [report]
