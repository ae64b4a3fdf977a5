"""A corpus drawn at random, packed without passing through text: for measuring speed and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from outrageous.config import CorpusConfig
from outrageous.data.generated import draw_ids, draw_lengths, spell
from outrageous.data.packing import ROWS_PER_CHUNK, packed_chunk, write_chunks
from outrageous.data.vocabulary import BOS, EOS, UNK, Vocabulary
from outrageous.errors import UserError

PARTS = {"train": 1, "dev": 50, "test": 50}  # by how much each is smaller than the training part


def build_synthetic(config: CorpusConfig, folder: Path) -> dict[str, Any]:
    """Write `vocabulary.txt`, of max_size entries, and a packed `<part>.arrow` for each part, max_rows sentences the
    training part, into `folder`; returns the counts.

    Raises:
        UserError: one of the two numbers is not set.
    """
    if config.max_size is None or config.max_rows is None:
        raise UserError("data.source=synthetic: give data.max_size, of the vocabulary, and data.max_rows, of sentences")
    num_types = config.max_size - 3
    # What is drawn is not counted: any counts that fall will do.
    words = [EOS, *(word.decode().strip() for word in spell(num_types)[:-1]), UNK, BOS]
    Vocabulary(words, list(range(len(words) - 1, -1, -1))).save(folder / "vocabulary.txt")
    counts = {}
    for number, (part, divisor) in enumerate(PARTS.items()):
        generator = np.random.default_rng((config.split_seed, number))
        counts[part] = _pack(folder / f"{part}.arrow", max(1, config.max_rows // divisor), num_types, generator)
    return {"vocabulary_size": len(words), "parts": counts}


def _pack(file: Path, num_sentences: int, num_types: int, generator: np.random.Generator) -> dict[str, int]:
    lengths = draw_lengths(num_sentences, generator)
    chunks = []
    for start in range(0, num_sentences, ROWS_PER_CHUNK):
        predicted = lengths[start : start + ROWS_PER_CHUNK] + 1
        ids = np.minimum(draw_ids(int(predicted.sum()), num_types, generator), num_types - 1) + 1
        ids[np.cumsum(predicted) - 1] = 0  # </s>
        chunks.append(packed_chunk(ids.astype(np.int32), predicted))
    write_chunks(file, chunks)
    num_words = int(lengths.sum())
    counts = {"sentences": num_sentences, "words": num_words, "predicted_tokens": num_words + num_sentences}
    return counts | {"oov": 0, "duplicates_dropped": 0}
