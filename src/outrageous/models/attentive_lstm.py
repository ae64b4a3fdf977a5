"""The first LSTM of the decoder, which takes a context of the source sentence as further input.

Axes: B sentences, R that are decoded, L longest source sentence, T longest target sentence, D d_model, H units.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outrageous.models.attention import Attention, Memory
from outrageous.models.lstm import LSTM, LSTMState


class AttentiveLSTM(nn.Module):
    """Its input is a word and a context, for which its output of the step before asks, together with the word.

    The paper says that it takes what the attention puts out and queries it, and no more. Two choices are ours, and with
    them attention is learned in far fewer steps. The word about to be read is added to the output that queries, without
    which the attention cannot know how the sentence went on. And the residual is that of both inputs: the context is
    added to the output as the word is, so that the layers above see the source without a way through gates.
    """

    def __init__(self, d_model: int, num_units: int, attention: Attention) -> None:
        """Raises ValueError: num_units < d_model."""
        super().__init__()
        self.d_model = d_model
        self.lstm = LSTM(d_model, num_units, d_input=2 * d_model)
        self.attention = attention

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x [B, T, D] -> [B, T, D], context and output without the word, all words of a target sentence known.

        The context depends on the output before it, so this has to go step by step. What does not depend on it, the
        words' part of the gates, is one product for all steps.
        """
        weights = dict(self.lstm.lstm.named_parameters())
        of_words, of_context = weights["weight_ih_l0"].split(self.d_model, dim=1)  # [4H, D] each
        fed_back = torch.cat([of_context, weights["weight_hh_l0"]], dim=1).t()  # [2D, 4H]
        known = F.linear(x, of_words, weights["bias_ih_l0"] + weights["bias_hh_l0"])  # [B, T, 4H]
        state = self.start(len(x))
        output, cell, results = state.output, state.cell, []
        for gates, word in zip(known.unbind(dim=1), x.unbind(dim=1), strict=True):
            context, _ = self._look(word, output, memory)
            gates = torch.addmm(gates, torch.cat([context, output], dim=1), fed_back)
            i, f, g, o = gates.chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            output = o.sigmoid() * cell.tanh()
            if "weight_hr_l0" in weights:
                output = F.linear(output, weights["weight_hr_l0"])
            results.append(context + output)
        return torch.stack(results, dim=1)

    def start(self, num_rows: int) -> LSTMState:
        """The state from which every sentence starts, of R sentences."""
        return self.lstm.start(num_rows)

    def step(self, x: Tensor, state: LSTMState, memory: Memory) -> tuple[Tensor, LSTMState, Tensor]:
        """One word of each of R sentences: x [R, D] -> [R, D], context and output without the word, the state after it,
        and the attention's weights [R, L] with which the context was made."""
        context, weights = self._look(x, state.output, memory)
        output, state = self.lstm.step(torch.cat([x, context], dim=1), state)
        return context + output, state, weights

    def _look(self, word: Tensor, output: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """word [R, D], output [R, D] of the step before -> context [R, D], weights [R, L]."""
        context, weights = self.attention((word + output).unsqueeze(1), memory)
        return context.squeeze(1), weights.squeeze(1)
