"""Sentences as token ids in one memory-mapped Arrow file.

The file has one column, `tokens`: list<int32>, one row a sentence, its last token `</s>`: a row is what the model has
to predict. It is an ordinary file of the `datasets` library, which `datasets.Dataset.from_file` opens too.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from outrageous.errors import UserError

ROWS_PER_CHUNK = 1 << 16  # few large chunks: gathering takes one pass for each chunk it touches
ROWS_PER_LOOK = 1 << 12  # a look at a row brings up to 64 kB of the file into memory
MOST_RESIDENT = 1 << 28  # bytes of a file that may stay in memory between two looks


def write_packed(file: Path, sentences: Iterable[list[int]], rows_per_chunk: int = ROWS_PER_CHUNK) -> None:
    """Write sentences (token ids, `</s>` included); holds `rows_per_chunk` of them in memory at a time."""
    write_chunks(file, packed_chunks(sentences, rows_per_chunk))


def packed_chunks(sentences: Iterable[list[int]], rows_per_chunk: int = ROWS_PER_CHUNK) -> Iterator[pa.Table]:
    """Tables as `packed_chunk` makes them, of so many sentences each."""
    rows = iter(sentences)
    while chunk := list(islice(rows, rows_per_chunk)):
        lengths = np.fromiter(map(len, chunk), dtype=np.int32, count=len(chunk))
        tokens = np.fromiter(chain.from_iterable(chunk), dtype=np.int32, count=lengths.sum())
        yield packed_chunk(tokens, lengths)


def packed_chunk(tokens: NDArray[np.int32], lengths: NDArray[np.integer]) -> pa.Table:
    """A table of sentences of these lengths, which follow one another in `tokens`."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.table({"tokens": pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens))})


def tokens_of(chunk: pa.Table) -> NDArray[np.int32]:
    """The token ids of all sentences of such a table, one after the other."""
    tokens: NDArray[np.int32] = chunk.column("tokens").combine_chunks().values.to_numpy()
    return tokens


def write_shard(target: Path, chunks: Iterable[pa.Table]) -> None:
    """Write such tables to a file that is to become part of a packed one; it is made whole or not at all."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    schema = packed_chunk(np.zeros(0, np.int32), np.zeros(0, np.int32)).schema
    with pa.ipc.new_stream(str(part), schema) as writer:
        for chunk in chunks:
            writer.write_table(chunk)
    part.replace(target)


def read_chunks(file: Path) -> Iterator[pa.Table]:
    """The tables of a shard or a packed file, one after the other."""
    with pa.memory_map(str(file)) as stream:
        for batch in pa.ipc.open_stream(stream):
            yield pa.Table.from_batches([batch])


def write_chunks(file: Path, chunks: Iterable[pa.Table]) -> None:
    """Write tables made by `packed_chunk`; each stays a chunk."""
    # Imported here: it takes seconds, and a corpus that is packed already does not need it.
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    with ArrowWriter(path=str(file), features=Features({"tokens": List(Value("int32"))})) as writer:
        for chunk in chunks:
            writer.write_table(chunk, writer_batch_size=len(chunk))
        writer.finalize()


class PackedSentences:
    """The sentences of an Arrow file written by `write_packed`, read through a memory map.

    Only the lengths are held in memory, 4 bytes a sentence; token ids are gathered from the map when they are asked
    for.

    Attributes:
        bos_id: the token `<s>` that comes before each sentence and is not stored.
        lengths: int32 [sentences], predicted tokens of each: its words and `</s>`.
        num_predicted_tokens: their sum.
    """

    def __init__(self, file: Path, bos_id: int) -> None:
        """Map `file`.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            with file.open("rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            chunks = pa.ipc.open_stream(pa.py_buffer(self._map)).read_all().column("tokens").chunks
        except (OSError, ValueError, KeyError) as error:  # ValueError: an empty file; Arrow's own errors are such too
            raise UserError(f"cannot read the packed sentences {file}: {error}") from error
        self.bos_id = bos_id
        # The whole file as int32: Arrow aligns its buffers, so that offsets and token ids are slices of this array.
        self._numbers = np.frombuffer(self._map, np.int32, count=len(self._map) // 4)
        self._first_row = np.cumsum([0, *map(len, chunks)])
        self._first_offset = np.array([self._place(chunk.offsets) for chunk in chunks], np.int64)
        self._first_value = np.array([self._place(chunk.values) for chunk in chunks], np.int64)
        self.lengths = np.empty(self._first_row[-1], np.int32)
        for first_row, chunk in zip(self._first_row, chunks, strict=False):
            np.subtract(chunk.offsets[1:], chunk.offsets[:-1], out=self.lengths[first_row : first_row + len(chunk)])
        self.num_predicted_tokens = int(self.lengths.sum(dtype=np.int64))
        self._release()

    def __len__(self) -> int:
        return len(self.lengths)

    def gather(self, indices: NDArray[np.integer]) -> NDArray[np.int32]:
        """Sentences `indices` [B] as rows of [B, L], L the longest of them; others repeat their last token, `</s>`."""
        lengths = self.lengths[indices]
        rows = np.empty((len(indices), lengths.max(initial=0)), np.int32)
        column = np.arange(rows.shape[1])  # [L]
        for start in range(0, len(indices), ROWS_PER_LOOK):
            here = slice(start, start + ROWS_PER_LOOK)
            chunk = np.searchsorted(self._first_row, indices[here], side="right") - 1
            offset = self._numbers[self._first_offset[chunk] + indices[here] - self._first_row[chunk]]
            first = self._first_value[chunk] + offset
            rows[here] = self._numbers[first[:, None] + np.minimum(column, lengths[here, None] - 1)]
            self._release()
        return rows

    def _place(self, array: pa.Array) -> int:
        """Where in `_numbers` the values of an array of the file begin."""
        return (array.to_numpy().ctypes.data - self._numbers.ctypes.data) // 4

    def _release(self) -> None:
        """Let go of the pages that were read: they stay in the system's cache, but count no longer as this process's
        memory. Of a small file they may all stay."""
        if len(self._map) > MOST_RESIDENT:
            self._map.madvise(mmap.MADV_DONTNEED)
