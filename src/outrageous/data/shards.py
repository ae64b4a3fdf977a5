"""One file of tokenised text, a sentence a line: its words counted, or turned into packed ids.

Text stays bytes here, split at ASCII white space as the tools that made One Billion Word split it, a few megabytes at a
time: memory does not grow with the file. Both functions make their target whole or not at all.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from outrageous.data.packing import packed_chunk, write_shard
from outrageous.data.text import open_text
from outrageous.data.vocabulary import Vocabulary
from outrageous.errors import UserError

BYTES_AT_A_TIME = 1 << 23
IS_SPACE = np.isin(np.arange(256), list(b" \t\n\r\v\f"))  # [256] bool


def count_shard(source: Path, target: Path) -> None:
    """Write to `target` how many sentences there are, and then `word<TAB>count` for each word."""
    counts: Counter[bytes] = Counter()
    num_sentences = 0
    for block in _blocks(source):
        words, lengths = split(block)
        found = words.value_counts()
        for word, count in zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True):
            counts[word] += count
        num_sentences += len(lengths)
    try:
        b"\n".join(counts).decode()
    except UnicodeDecodeError as error:
        word = error.object[: error.end].split(b"\n")[-1]
        raise UserError(f"{source} is not UTF-8: {word!r} begins a word there; convert it to UTF-8 first") from error
    part = target.with_name(f".{target.name}.{os.getpid()}")
    with part.open("wb") as stream:
        stream.write(b"%d\n" % num_sentences)
        stream.writelines(b"%b\t%d\n" % entry for entry in counts.items())
    part.replace(target)


def read_counts(file: Path) -> tuple[int, dict[str, int]]:
    """The number of sentences and the counts of words that `count_shard` wrote."""
    first, *lines = file.read_bytes().decode().removesuffix("\n").split("\n")
    entries = (line.split("\t") for line in lines)
    return int(first), {word: int(count) for word, count in entries}


def encode_shard(source: Path, target: Path, vocabulary_file: Path) -> None:
    """Write the sentences of `source` to `target` as ids, chunks as of `packed_chunk`."""
    ids, eos = _ids_of(vocabulary_file)

    def chunks() -> Iterator[pa.Table]:
        for block in _blocks(source):
            words, lengths = split(block)
            coded = words.dictionary_encode()  # only different words are looked up: a tenth of all
            known = np.fromiter(map(ids.__getitem__, coded.dictionary.to_pylist()), np.int32, len(coded.dictionary))
            tokens = np.full(len(words) + len(lengths), eos, np.int32)
            tokens[_all_but_last(lengths + 1)] = known[coded.indices.to_numpy()]
            yield packed_chunk(tokens, lengths + 1)

    write_shard(target, chunks())


def split(block: bytes) -> tuple[pa.BinaryArray, NDArray[np.int64]]:
    """The words of a block of whole lines, and how many stand in each line that has any.

    As `line.split()` would, but without a Python object for each word.
    """
    text = np.frombuffer(block, np.uint8)
    is_space = IS_SPACE[text]
    is_letter = ~is_space
    starts = np.flatnonzero(is_letter[1:] & is_space[:-1]) + 1  # of words, in the block
    if len(text) and is_letter[0]:
        starts = np.insert(starts, 0, 0)
    letters = text[is_letter]  # words without what stands between them
    offsets = np.append(np.cumsum(is_letter)[starts] - 1, len(letters)).astype(np.int32)
    words = pa.BinaryArray.from_buffers(pa.binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(letters)])
    line_ends = np.append(np.flatnonzero(text == ord("\n")), len(text))
    lengths = np.diff(np.searchsorted(starts, line_ends), prepend=0)
    return words, lengths[lengths > 0]


class _Ids(dict[bytes, int]):
    """A dictionary in which words that are not there are `<unk>`: no question asked for each word."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__((word.encode(), vocabulary.encode([word])[0]) for word in vocabulary.words)
        self._unk_id = vocabulary.unk_id

    def __missing__(self, word: bytes) -> int:
        return self._unk_id


@lru_cache(maxsize=1)  # a process encodes many shards
def _ids_of(vocabulary_file: Path) -> tuple[_Ids, int]:
    vocabulary = Vocabulary.load(vocabulary_file)
    return _Ids(vocabulary), vocabulary.eos_id


def _all_but_last(lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of runs of these lengths, all places but the last of each: where words stand, and not `</s>`."""
    places = np.ones(lengths.sum(), np.bool_)
    places[np.cumsum(lengths) - 1] = False
    return places


def _blocks(file: Path) -> Iterator[bytes]:
    """The file in blocks of whole lines."""
    with open_text(file) as stream:
        while block := stream.read(BYTES_AT_A_TIME):
            yield block + stream.readline()
