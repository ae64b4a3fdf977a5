"""The first LSTM of the decoder, which takes a context of the source sentence as further input.

Axes: B sentences, L longest source sentence, T longest target sentence, D d_model, H units.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outrageous.models.attention import Attention, Memory
from outrageous.models.lstm import LSTM, LSTMState


@dataclass(frozen=True)
class AttentiveState:
    """What recurs of R sentences between two words.

    Attributes:
        lstm: of the LSTM itself.
        query: [R, D], what asks for the next context.
    """

    lstm: LSTMState
    query: Tensor

    def select(self, rows: Tensor) -> "AttentiveState":
        """The states of these sentences, any number of times each; rows [S] int64."""
        return AttentiveState(self.lstm.select(rows), self.query[rows])


class AttentiveLSTM(nn.Module):
    """Its input is a word and the context that the step before asked for, its output queries the next one.

    A query is the layer's output with its residual, the word, and so has the word itself; the paper does not say
    whether its output is with it. Before the first word the query is zero, so the paper's attention starts with the
    mean of the encoder's outputs.
    """

    def __init__(self, d_model: int, num_units: int, attention: Attention) -> None:
        """Raises ValueError: num_units < d_model."""
        super().__init__()
        self.d_model = d_model
        self.lstm = LSTM(d_model, num_units, d_input=2 * d_model)
        self.attention = attention

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x [B, T, D] -> [B, T, D] without the residual, all words of a target sentence known.

        The context depends on the output before it, so this has to go step by step. What does not depend on it, the
        words' part of the gates, is one product for all steps.
        """
        weights = dict(self.lstm.lstm.named_parameters())
        of_words, of_context = weights["weight_ih_l0"].split(self.d_model, dim=1)  # [4H, D] each
        fed_back = torch.cat([of_context, weights["weight_hh_l0"]], dim=1).t()  # [2D, 4H]
        known = F.linear(x, of_words, weights["bias_ih_l0"] + weights["bias_hh_l0"])  # [B, T, 4H]
        state = self.start(len(x))
        output, cell, query, outputs = state.lstm.output, state.lstm.cell, state.query, []
        for gates, word in zip(known.unbind(dim=1), x.unbind(dim=1), strict=True):
            context, _ = self.attention(query.unsqueeze(1), memory)
            gates = torch.addmm(gates, torch.cat([context.squeeze(1), output], dim=1), fed_back)
            i, f, g, o = gates.chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            output = o.sigmoid() * cell.tanh()
            if "weight_hr_l0" in weights:
                output = F.linear(output, weights["weight_hr_l0"])
            outputs.append(output)
            query = word + output
        return torch.stack(outputs, dim=1)

    def start(self, num_rows: int) -> AttentiveState:
        """The state from which every sentence starts, of R sentences."""
        state = self.lstm.start(num_rows)
        return AttentiveState(state, state.cell.new_zeros(num_rows, self.d_model))

    def step(self, x: Tensor, state: AttentiveState, memory: Memory) -> tuple[Tensor, AttentiveState, Tensor]:
        """One word of each of R sentences: x [R, D] -> [R, D] without the residual, the state after it, and the
        attention's weights [R, L] with which the context was made."""
        context, weights = self.attention(state.query.unsqueeze(1), memory)
        output, lstm = self.lstm.step(torch.cat([x, context.squeeze(1)], dim=1), state.lstm)
        return output, AttentiveState(lstm, x + output), weights.squeeze(1)
