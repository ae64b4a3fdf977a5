"""Random numbers of a token that depend on which token it is, not on which process has it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from outrageous.moe.part import BatchPart
from outrageous.parallel.processes import Processes

# A row's number is its token's, 63 bits in all: sentence · 2^20 + place, and for a row on its way to a group or expert
# of it, times 2^18 plus that.
PLACE_BITS, EXPERT_BITS = 20, 18
GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as int64
NUMBERS_AT_ONCE = 2**15  # on a CPU: few enough to stay in the cache


class Draws:
    """Streams of random numbers of one step: one for each (draw of the step, row), the same wherever it is drawn.

    SplitMix64 (Steele et al., 2014), started for each row at a hash of seed, draw and the row's number. All processes
    draw as often, in the same order.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._drawn = seed, 0

    def blocks(self, numbers: Tensor, width: int) -> Iterator[tuple[slice, Tensor]]:
        """numbers [S] int64 of rows -> block after block of them, and [block, width] int32, each of the 2^32 values as
        likely; the next block's are drawn into the same memory."""
        self._drawn += 1
        start = _mix(torch.tensor(self._seed ^ self._drawn * GOLDEN % 2**64 - 2**63, device=numbers.device))
        starts = _mix(numbers * GOLDEN + start).unsqueeze(1)  # [S, 1]
        steps = GOLDEN * torch.arange(1, -(-width // 2) + 1, device=numbers.device)
        rows = max(1, NUMBERS_AT_ONCE // len(steps)) if numbers.device.type == "cpu" else max(1, len(numbers))
        drawn, shifted = numbers.new_empty(2, min(rows, len(numbers)), len(steps))
        for first in range(0, len(numbers), rows):
            block = slice(first, min(first + rows, len(numbers)))
            x = torch.add(starts[block], steps, out=drawn[: block.stop - first])
            yield block, _mix(x, shifted[: block.stop - first]).view(torch.int32)[:, :width]


def _mix(x: Tensor, shifted: Tensor | None = None) -> Tensor:
    """SplitMix64's output function, in place; int64, of which products overflow as they should. shifted: like x, for
    what is computed on the way."""
    shifted = torch.empty_like(x) if shifted is None else shifted
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        torch.bitwise_right_shift(x, shift, out=shifted)
        x.bitwise_xor_(shifted.bitwise_and_(2 ** (64 - shift) - 1))  # a logical shift
        if factor != 1:
            x.mul_(factor - 2**64)
    return x


@dataclass(frozen=True)
class NumberedPart(BatchPart):
    """
    Attributes:
        processes: who has the batch.
        draws: of this step.
        numbers: [B] of sentences, or [S] of tokens or rows, int64.
        complete: whether no other process has any row like these: all rows of the batch for the experts here.
        first_expert: of those here, where `complete`.
    """

    processes: Processes
    draws: Draws
    numbers: Tensor
    complete: bool = False
    first_expert: int = 0

    def normal(self, like: Tensor) -> Tensor:
        """From 24 bits, by the inverse of the distribution function: none is beyond 5.3."""
        result = like.new_empty(like.shape, dtype=torch.float32)
        for block, bits in self.draws.blocks(self.numbers, like.shape[1]):
            uniform = (bits >> 8).float().add_(0.5).mul_(2**-23)  # within (-1, 1)
            torch.erfinv(uniform, out=result[block]).mul_(2**0.5)
        return result.to(like.dtype)

    def dropout(self, x: Tensor, p: float) -> Tensor:
        dropped = torch.empty(x.shape, dtype=torch.bool, device=x.device)
        for block, bits in self.draws.blocks(self._places(x.shape[1]).flatten(), x.shape[2]):
            torch.lt(bits, round(p * 2**32) - 2**31, out=dropped.view(-1, x.shape[2])[block])
        return x.masked_fill(dropped, 0).mul(1 / (1 - p))

    def words(self, mask: Tensor) -> "NumberedPart":
        return replace(self, numbers=self._places(mask.shape[1])[mask])

    def rows(self, token: Tensor, expert: Tensor) -> "NumberedPart":
        return replace(self, numbers=(self.numbers[token] << EXPERT_BITS) + (expert + self.first_expert))

    def whole(self, rows: Tensor) -> tuple[Tensor, Tensor | slice]:
        if self.complete or self.processes.size == 1:
            return rows, slice(None)
        order = self.processes.gather(self.numbers).argsort()
        counts = self.processes.gather(torch.tensor([len(rows)], device=rows.device)).tolist()
        first = sum(counts[: self.processes.rank])
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        return self.processes.gather(rows)[order], place[first : first + len(rows)]

    def _places(self, length: int) -> Tensor:
        """[B, L], the numbers of words."""
        return (self.numbers.unsqueeze(1) << PLACE_BITS) + torch.arange(length, device=self.numbers.device)
