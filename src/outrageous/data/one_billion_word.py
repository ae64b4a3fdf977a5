"""One Billion Word as it is published: how to tell it, and the counts that a right preparation of it has."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tqdm import tqdm

from outrageous.config import CorpusConfig
from outrageous.errors import UserError

NAME = "lm1b"
TEST_MD5 = "ce1e84fb6d856ced56ba2c551104f6ac"  # of news.en.heldout-00000-of-00050
NUM_SHARDS = 99
VOCABULARY_SIZE = 793_471  # words seen at least three times, and <s> </s> <unk>
SENTENCES = {"train": 30_301_028, "dev": 6_206, "test": 6_075}
PREDICTED_TOKENS = {"dev": 165_560, "test": 159_658}


def is_published(config: CorpusConfig, test_files: list[Path]) -> bool:
    """Whether a corpus is One Billion Word: it has the name, and the test set. With another test set it is another one
    in its form, which nothing is known of, and a line says so."""
    if config.name != NAME:
        return False
    if [hashlib.md5(file.read_bytes()).hexdigest() for file in test_files] != [TEST_MD5]:
        names = ", ".join(file.name for file in test_files)
        tqdm.write(f"{names}: not the test set of One Billion Word, so the corpus is not checked against its counts")
        return False
    return True


def check_files(training: dict[str, Path]) -> None:
    """Before minutes are spent on them. Raises UserError if there are not as many as were published."""
    if len(training) != NUM_SHARDS:
        raise UserError(f"One Billion Word has {NUM_SHARDS} training files, not {len(training)}. {_ANEW}")


def check_counts(config: CorpusConfig, meta: dict[str, Any], given_vocabulary: bool) -> None:
    """Compare the counts of One Billion Word as prepared with the published ones.

    Args:
        given_vocabulary: words are numbered by a vocabulary from elsewhere, whose size says nothing of this text.

    Raises:
        UserError: a count differs.
    """
    expected, found = {}, {}
    if (config.min_count, config.max_size) == (3, None) and not given_vocabulary:
        expected["words of the vocabulary"] = VOCABULARY_SIZE
        found["words of the vocabulary"] = meta["vocabulary_size"]
    for kind, counts in (("sentences", SENTENCES), ("predicted_tokens", PREDICTED_TOKENS)):
        expected |= {f"{kind} of {part}": count for part, count in counts.items()}
        found |= {f"{kind} of {part}": meta["parts"][part][kind] for part in counts}
    differing = [f"{found[name]:,} {name}, not {count:,}" for name, count in expected.items() if found[name] != count]
    if differing:
        raise UserError(f"One Billion Word has other counts than these: {'; '.join(differing)}. {_ANEW}")


_ANEW = "Fetch it again (make data-lm1b), or give a part of it another name, data.name=…"
