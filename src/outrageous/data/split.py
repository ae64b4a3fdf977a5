"""Which part of a corpus each sentence belongs to: whole blocks of consecutive sentences are held out.

Neighbouring sentences resemble each other, so lines drawn one by one would let a model know its test set.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence

from outrageous.errors import UserError

Blocks = Mapping[str, Sequence[int]]
Assignment = dict[tuple[str, int], str]
"""(file name, block number) -> `dev` or `test`; every other block is training."""


def num_blocks(num_sentences: int, block_lines: int) -> int:
    """Blocks of a file; the last one may be shorter than `block_lines` sentences."""
    return -(-num_sentences // block_lines)


def assign_named(blocks_of: Mapping[str, int], dev: Blocks, test: Blocks) -> Assignment:
    """Hold out the blocks that `dev` and `test` name by file; `blocks_of` has the number of blocks of each file.

    Raises:
        UserError: a file or block that is not there, a block named twice, or a part that is empty.
    """
    assignment: Assignment = {}
    for part, files in (("dev", dev), ("test", test)):
        for name, numbers in files.items():
            if name not in blocks_of:
                raise UserError(f"data.{part}_blocks names {name!r}, but data.path gives only {', '.join(blocks_of)}")
            for number in numbers:
                if not 0 <= number < blocks_of[name]:
                    raise UserError(f"data.{part}_blocks: {name} has blocks 0 to {blocks_of[name] - 1}, not {number}")
                if (name, number) in assignment:
                    raise UserError(f"data.{part}_blocks: block {number} of {name} is held out twice")
                assignment[name, number] = part
    if {*assignment.values()} != {"dev", "test"} or len(assignment) == sum(blocks_of.values()):
        raise UserError("data.dev_blocks and data.test_blocks must each name a block and leave one for training")
    return assignment


def assign_drawn(blocks_of: Mapping[str, int], dev_fraction: float, test_fraction: float, seed: int) -> Assignment:
    """Hold out about these fractions of all blocks, drawn with `seed`; at least one for dev and one for test.

    Raises:
        UserError: too few blocks to leave one for training.
    """
    blocks = [(name, number) for name, count in blocks_of.items() for number in range(count)]
    num_dev, num_test = (max(1, round(fraction * len(blocks))) for fraction in (dev_fraction, test_fraction))
    if num_dev + num_test >= len(blocks):
        raise UserError(
            f"the corpus has {len(blocks)} blocks: too few for {num_dev} of dev, {num_test} of test and any of "
            "training; lower data.block_lines or give more text"
        )
    random.Random(seed).shuffle(blocks)
    dev, test = blocks[:num_dev], blocks[num_dev : num_dev + num_test]
    return dict.fromkeys(dev, "dev") | dict.fromkeys(test, "test")


def duplicate_key(words: Iterable[str]) -> str:
    """What makes two sentences duplicates: letters in lower case, each number as 0, white space left out."""
    return re.sub(r"\d+", "0", "".join(words).lower())
