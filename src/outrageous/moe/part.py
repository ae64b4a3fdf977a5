"""The tokens of a forward pass as part of a batch, of which others may be elsewhere.

What is drawn at random for tokens, and what a strictly balanced gate decides over a whole batch, is asked of the part
at hand. By default that is the whole batch, and PyTorch's generator draws. Whoever divides batches brings another kind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor


class BatchPart:
    """A whole batch."""

    def normal(self, like: Tensor) -> Tensor:
        """Numbers from N(0, 1); like [T, N] of all tokens at hand -> [T, N]."""
        return torch.randn_like(like)

    def dropout(self, x: Tensor, p: float) -> Tensor:
        """x [B, L, D] of all sentences at hand, each number dropped with probability p or divided by 1 - p."""
        return F.dropout(x, p)

    def words(self, mask: Tensor) -> "BatchPart":
        """What is at hand for whoever is given the tokens at mask [B, L] only."""
        return self

    def rows(self, token: Tensor, expert: Tensor) -> "BatchPart":
        """What is at hand for whoever is given a row for each assignment of token [S] to expert [S]."""
        return self

    def whole(self, rows: Tensor) -> tuple[Tensor, Tensor | slice]:
        """rows [S, ...] of all tokens at hand -> those of the whole batch, in its order, and where these rows are
        among them."""
        return rows, slice(None)

    def counts(self, rows: Tensor, total: int) -> list[int]:
        """rows [A], numbers of rows, total in all -> the same as plain numbers, for which a GPU is waited."""
        numbers: list[int] = rows.tolist()
        return numbers


WHOLE_BATCH = BatchPart()
_AT_HAND: ContextVar[BatchPart] = ContextVar("part of a batch", default=WHOLE_BATCH)


def part_at_hand() -> BatchPart:
    return _AT_HAND.get()


@contextmanager
def at_hand(part: BatchPart) -> Iterator[None]:
    """Forward passes within are given this part."""
    token = _AT_HAND.set(part)
    try:
        yield
    finally:
        _AT_HAND.reset(token)
