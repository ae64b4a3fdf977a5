"""Pairs of sentences as wordpieces, in two memory-mapped Arrow files: sources and targets, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from outrageous.data.packing import PackedSentences
from outrageous.data.wordpieces import Wordpieces
from outrageous.errors import UserError

SIDES = ("source", "target")


class PackedPairs:
    """Pairs, those of one direction after those of the other.

    Attributes:
        source: `</s>` last, where there are several target languages the token of the target language first.
        target: `</s>` last.
        rows_of: `en-de` -> its rows.
        num_predicted_tokens: wordpieces of all targets, `</s>` included.
    """

    def __init__(self, folder: Path, part: str, num_pairs: dict[str, int]) -> None:
        """Map `<part>.source.arrow` and `<part>.target.arrow`.

        Args:
            num_pairs: of each direction.

        Raises:
            UserError: a file is missing or damaged, or does not hold as many pairs.
        """
        self.source, self.target = (
            PackedSentences(packed_file(folder, part, side), Wordpieces.bos_id) for side in SIDES
        )
        ends = np.cumsum([0, *num_pairs.values()]).tolist()
        self.rows_of = {name: range(*bounds) for name, *bounds in zip(num_pairs, ends, ends[1:], strict=False)}
        if not len(self.source) == len(self.target) == ends[-1]:
            raise UserError(
                f"{part}: {len(self.source)} sources and {len(self.target)} targets, not {ends[-1]} as meta.json says"
            )
        self.num_predicted_tokens = self.target.num_predicted_tokens

    def __len__(self) -> int:
        return len(self.target)


def packed_file(folder: Path, part: str, side: str) -> Path:
    """Where the sentences of one side (`source` or `target`) are."""
    return folder / f"{part}.{side}.arrow"
