"""Attention of a decoder to what an encoder made of a sentence: the paper's (appendix G), and GNMT's to compare.

Axes: B sentences, L longest source sentence, Q queries of each, D d_model.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Memory:
    """Encoded sentences.

    Attributes:
        values: [B, L, D], the encoder's outputs.
        keys: [B, L, D], what queries are compared with.
        mask: [B, L] bool, False at padding. No sentence is empty.
    """

    values: Tensor
    keys: Tensor
    mask: Tensor

    def select(self, rows: Tensor) -> "Memory":
        """These sentences, any number of times each; rows [S] int64."""
        return Memory(self.values[rows], self.keys[rows], self.mask[rows])


class Attention(nn.Module, ABC):
    """The weights are a softmax of A(x_i, y_j) over the source positions i, the context is the encoder's outputs' mean
    by these weights.

    Vectors that are compared are as wide as the model, which the paper does not say. V starts at 1/√D, so that the
    multiplicative A starts as a scaled inner product (Vaswani et al., 2017); U and W start as PyTorch's linear layers
    do. Where V starts at ones, weights grow peaked by chance before they mean anything, and the source counts later.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.key = nn.Linear(d_model, d_model, bias=False)  # U
        self.query = nn.Linear(d_model, d_model, bias=False)  # W
        self.v = nn.Parameter(torch.full((d_model,), d_model**-0.5))

    def remember(self, encoded: Tensor, mask: Tensor) -> Memory:
        """encoded [B, L, D], mask [B, L]: computed once for all queries to come."""
        return Memory(encoded, self._keys(encoded), mask)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """queries [B, Q, D] -> context [B, Q, D] and weights [B, Q, L], which are zero at padding."""
        scores = self._scores(queries, memory.keys)
        # Not -∞, of which the softmax of a sentence of nothing but padding would make NaN.
        scores = scores.masked_fill(~memory.mask.unsqueeze(1), torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=2)
        return weights @ memory.values, weights

    @abstractmethod
    def _keys(self, encoded: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""

    @abstractmethod
    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """A(x_i, y_j) of all pairs: queries [B, Q, D], keys [B, L, D] -> [B, Q, L]."""


class MultiplicativeAttention(Attention):
    """Appendix G: A(x_i, y_j) = Σ_d V_d · tanh((x_i·U)_d) · tanh((y_j·W)_d)."""

    def _keys(self, encoded: Tensor) -> Tensor:
        return self.key(encoded).tanh() * self.v

    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return self.query(queries).tanh() @ keys.transpose(1, 2)


class AdditiveAttention(Attention):
    """GNMT's (Wu et al., 2016): A(x_i, y_j) = Σ_d V_d · tanh((x_i·U)_d + (y_j·W)_d). Forms B·Q·L·D numbers."""

    def _keys(self, encoded: Tensor) -> Tensor:
        keys: Tensor = self.key(encoded)
        return keys

    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return (self.query(queries).unsqueeze(2) + keys.unsqueeze(1)).tanh() @ self.v
