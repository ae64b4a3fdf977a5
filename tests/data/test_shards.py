"""One shard: words split, counted and encoded as Python would, one by one."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrageous.data import shards
from outrageous.data.packing import read_chunks
from outrageous.data.shards import count_shard, encode_shard, read_counts, split
from outrageous.data.vocabulary import Vocabulary
from outrageous.errors import UserError

TEXT = "the cat sat .\n\n the  dog\tsat </s> .\r\n   \nein Käfer\u00a0flog .\nthe end"
SENTENCES = [
    ["the", "cat", "sat", "."],
    ["the", "dog", "sat", "</s>", "."],
    ["ein", "Käfer\u00a0flog", "."],  # a no-break space does not divide words
    ["the", "end"],
]


@given(st.text(alphabet=" \n\t\rab\u00e4\u3000").map(str.encode))
def test_splitting_equals_its_slow_twin(block: bytes) -> None:
    words, lengths = split(block)
    words.validate(full=True)
    assert words.to_pylist() == block.split()
    assert lengths.tolist() == [len(line.split()) for line in block.split(b"\n") if line.split()]


@pytest.fixture(params=[1, 13, 1 << 20])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The text, read a line or several or all at a time."""
    monkeypatch.setattr(shards, "BYTES_AT_A_TIME", request.param)
    file = tmp_path / "shard"
    file.write_bytes(TEXT.encode())
    return file


def test_words_and_sentences_are_counted(source: Path, tmp_path: Path) -> None:
    count_shard(source, tmp_path / "counts")
    num_sentences, counts = read_counts(tmp_path / "counts")
    assert num_sentences == len(SENTENCES)
    assert counts == Counter(word for words in SENTENCES for word in words)


def test_sentences_become_ids(source: Path, tmp_path: Path) -> None:
    vocabulary = Vocabulary(["the", "</s>", ".", "<unk>", "sat", "cat", "<s>"], [9, 4, 3, 2, 2, 1, 0])
    vocabulary.save(tmp_path / "vocabulary.txt")
    encode_shard(source, tmp_path / "ids", tmp_path / "vocabulary.txt")
    rows = [row for chunk in read_chunks(tmp_path / "ids") for row in chunk.column("tokens").to_pylist()]
    assert rows == [[*vocabulary.encode(words), 1] for words in SENTENCES]
    assert rows[1] == [0, 3, 4, 3, 2, 1]  # </s> spelled out is an unknown word


def test_an_empty_shard_has_no_words(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"")
    count_shard(tmp_path / "shard", tmp_path / "counts")
    assert read_counts(tmp_path / "counts") == (0, {})


def test_text_that_is_not_utf8_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"a caf\xe9 closed\n")
    with pytest.raises(UserError, match=r"shard is not UTF-8: b'caf\\xe9' begins a word there"):
        count_shard(tmp_path / "shard", tmp_path / "counts")
    assert [file.name for file in tmp_path.iterdir()] == ["shard"]


def test_chunks_are_read_through_a_memory_map(tmp_path: Path) -> None:
    (tmp_path / "shard").write_text("a b\n" * 1000)
    Vocabulary(["a", "b", "</s>", "<unk>", "<s>"], [3, 2, 1, 0, 0]).save(tmp_path / "vocabulary.txt")
    encode_shard(tmp_path / "shard", tmp_path / "ids", tmp_path / "vocabulary.txt")
    before = pa.total_allocated_bytes()
    tables = list(read_chunks(tmp_path / "ids"))
    assert pa.total_allocated_bytes() - before < 1000
    assert np.concatenate([table.column("tokens").combine_chunks().values.to_numpy() for table in tables]).size == 3000
