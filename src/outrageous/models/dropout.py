"""Dropout of words' activations."""

from torch import Tensor, nn

from outrageous.moe.part import part_at_hand


class Dropout(nn.Dropout):
    """As `nn.Dropout`; where a batch is divided, of a word the same numbers whoever has it."""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, L, D] -> [B, L, D]."""
        return part_at_hand().dropout(x, self.p) if self.training and self.p > 0 else x
