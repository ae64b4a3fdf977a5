"""Sentences as token ids in one memory-mapped Arrow file.

The file has one column, `tokens`: list<int32>, one row a sentence, its last token `</s>`: a row is what the model has
to predict. It is an ordinary file of the `datasets` library, which `datasets.Dataset.from_file` opens too.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from outrageous.errors import UserError

ROWS_PER_CHUNK = 1 << 16  # few large chunks: gathering takes one pass for each chunk it touches


def write_packed(file: Path, sentences: Iterable[list[int]], rows_per_chunk: int = ROWS_PER_CHUNK) -> None:
    """Write sentences (token ids, `</s>` included); holds `rows_per_chunk` of them in memory at a time."""
    # Imported here: it takes seconds, and a corpus that is packed already does not need it.
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    rows = iter(sentences)
    with ArrowWriter(path=str(file), features=Features({"tokens": List(Value("int32"))})) as writer:
        while chunk := list(islice(rows, rows_per_chunk)):
            offsets = np.cumsum([0, *map(len, chunk)], dtype=np.int32)
            values = np.fromiter(chain.from_iterable(chunk), dtype=np.int32, count=offsets[-1])
            column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
            writer.write_table(pa.table({"tokens": column}), writer_batch_size=rows_per_chunk)
        writer.finalize()


class PackedSentences:
    """The sentences of an Arrow file written by `write_packed`, read through a memory map.

    Only the lengths are held in memory; token ids are gathered from the map when they are asked for.

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
            chunks = pa.ipc.open_stream(pa.memory_map(str(file))).read_all().column("tokens").chunks
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise UserError(f"cannot read the packed sentences {file}: {error}") from error
        self.bos_id = bos_id
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]  # views of the map, like the values
        self._values = [chunk.values.to_numpy() for chunk in chunks]
        self._first_row = np.cumsum([0, *map(len, chunks)])
        self.lengths = np.concatenate([np.zeros(0, np.int32), *map(np.diff, self._offsets)])
        self.num_predicted_tokens = int(self.lengths.sum(dtype=np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    def gather(self, indices: NDArray[np.integer]) -> NDArray[np.int32]:
        """Sentences `indices` [B] as rows of [B, L], L the longest of them; others repeat their last token, `</s>`."""
        lengths = self.lengths[indices]
        rows = np.empty((len(indices), lengths.max(initial=0)), np.int32)
        column = np.arange(rows.shape[1])  # [L]
        chunk_of = np.searchsorted(self._first_row, indices, side="right") - 1
        for chunk in np.unique(chunk_of):
            here = np.flatnonzero(chunk_of == chunk)
            first = self._offsets[chunk][indices[here] - self._first_row[chunk]]
            position = first[:, None] + np.minimum(column, lengths[here, None] - 1)
            rows[here] = self._values[chunk][position]
        return rows
