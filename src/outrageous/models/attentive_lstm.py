"""The first LSTM of the decoder, which takes a context of the source sentence as further input.

Axes: B sentences, L longest source sentence, T longest target sentence, D d_model, H units.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outrageous.models.attention import Attention, Memory
from outrageous.models.lstm import LSTM, LSTMState


class AttentiveLSTM(nn.Module):
    """Its input is a word and the context that its own previous output asks for, its output queries the next one.

    Before the first word the output is zero, so the paper's attention starts with the mean of the encoder's outputs.
    """

    def __init__(self, d_model: int, num_units: int, attention: Attention) -> None:
        """Raises ValueError: num_units < d_model."""
        super().__init__()
        self.d_model = d_model
        self.lstm = LSTM(d_model, num_units, d_input=2 * d_model)
        self.attention = attention

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x [B, T, D] -> [B, T, D], all words of a target sentence known.

        The context depends on the output before it, so this has to go step by step. What does not depend on it, the
        words' part of the gates, is one product for all steps.
        """
        weights = dict(self.lstm.lstm.named_parameters())
        of_words, of_context = weights["weight_ih_l0"].split(self.d_model, dim=1)  # [4H, D] each
        fed_back = torch.cat([of_context, weights["weight_hh_l0"]], dim=1).t()  # [2D, 4H]
        known = F.linear(x, of_words, weights["bias_ih_l0"] + weights["bias_hh_l0"])  # [B, T, 4H]
        state = self.lstm.start(len(x))
        output, cell, outputs = state.output, state.cell, []
        for gates in known.unbind(dim=1):
            context, _ = self.attention(output.unsqueeze(1), memory)
            gates = torch.addmm(gates, torch.cat([context.squeeze(1), output], dim=1), fed_back)
            i, f, g, o = gates.chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            output = o.sigmoid() * cell.tanh()
            if "weight_hr_l0" in weights:
                output = F.linear(output, weights["weight_hr_l0"])
            outputs.append(output)
        return torch.stack(outputs, dim=1)

    def step(self, x: Tensor, state: LSTMState, memory: Memory) -> tuple[Tensor, LSTMState, Tensor]:
        """One word of each of R sentences: x [R, D] -> [R, D], the state after it, and the attention's weights [R, L]
        with which the context was made."""
        context, weights = self.attention(state.output.unsqueeze(1), memory)
        output, state = self.lstm.step(torch.cat([x, context.squeeze(1)], dim=1), state)
        return output, state, weights.squeeze(1)
