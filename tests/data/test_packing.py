"""Packed sentences: what is gathered is what was written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from outrageous.data import packing
from outrageous.data.packing import PackedSentences, write_packed
from outrageous.errors import UserError

Pack = Callable[..., PackedSentences]
SENTENCES = st.lists(st.lists(st.integers(1, 98), max_size=6).map(lambda words: [*words, 0]), min_size=1, max_size=40)


def gather_slowly(sentences: list[list[int]], indices: list[int]) -> list[list[int]]:
    """The slow twin: rows padded with their own last token."""
    chosen = [sentences[i] for i in indices]
    longest = max(map(len, chosen))
    return [row + row[-1:] * (longest - len(row)) for row in chosen]


@given(sentences=SENTENCES, rows_per_chunk=st.integers(1, 50), data=st.data())
def test_gather_equals_its_slow_twin_whatever_the_chunks(
    sentences: list[list[int]], rows_per_chunk: int, data: st.DataObject, pack: Pack
) -> None:
    indices = data.draw(st.lists(st.integers(0, len(sentences) - 1), min_size=1, max_size=20))
    packed = pack(sentences, rows_per_chunk)
    assert packed.gather(np.array(indices)).tolist() == gather_slowly(sentences, indices)
    assert len(packed) == len(sentences)
    assert packed.lengths.tolist() == [len(sentence) for sentence in sentences]
    assert packed.num_predicted_tokens == sum(map(len, sentences))


def test_the_file_is_an_ordinary_dataset(tmp_path: Path) -> None:
    sentences = [[3, 1, 0], [0], [2, 0]]
    write_packed(tmp_path / "sentences.arrow", iter(sentences))
    assert Dataset.from_file(str(tmp_path / "sentences.arrow"))["tokens"][:] == sentences


def test_token_ids_stay_in_the_memory_map(pack: Pack) -> None:
    packed = pack([[1, 0]] * 100, rows_per_chunk=30)
    assert len(packed._first_value) == 4  # 30 + 30 + 30 + 10
    assert not packed._numbers.flags.owndata
    assert not packed._numbers.flags.writeable


def test_a_large_file_does_not_stay_in_memory(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = [[i % 50 + 1] * (i % 7) + [0] for i in range(300)]
    monkeypatch.setattr(packing, "MOST_RESIDENT", 0)
    monkeypatch.setattr(packing, "ROWS_PER_LOOK", 32)  # several looks, after each of which all is let go
    packed = pack(sentences, rows_per_chunk=70)
    order = np.random.default_rng(0).permutation(300)
    assert packed.gather(order).tolist() == gather_slowly(sentences, order.tolist())


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sentences.arrow"
    with pytest.raises(UserError, match="cannot read the packed sentences"):
        PackedSentences(file, bos_id=99)
    write_packed(file, [[1, 2, 0]] * 1000)
    whole = file.read_bytes()
    for damaged in (b"", b"not Arrow at all", whole[:100], whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="cannot read the packed sentences"):
            PackedSentences(file, bos_id=99)
