"""Vocabularies: hand-worked ids, files and what is refused."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrageous.data.vocabulary import Vocabulary
from outrageous.errors import UserError

# Three sentences: "the cat sat", "the cat ran", "the dog".
COUNTS = Counter(["the", "cat", "sat", "the", "cat", "ran", "the", "dog"])


def test_ids_fall_in_frequency_with_the_special_words_where_their_counts_put_them() -> None:
    vocabulary = Vocabulary.from_counts(COUNTS, num_sentences=3, min_count=2, max_size=None)
    # the 3, </s> 3 (a tie: "<" comes before "t"), <unk> 3 for sat, ran, dog (after "</s>"), cat 2, and <s> last
    assert vocabulary.words == ["</s>", "<unk>", "the", "cat", "<s>"]
    assert vocabulary.counts == [3, 3, 3, 2, 0]
    assert (vocabulary.eos_id, vocabulary.unk_id, vocabulary.bos_id) == (0, 1, 4)
    assert vocabulary.encode(["the", "bird", "sat", "on", "the", "cat"]) == [2, 1, 1, 1, 2, 3]


def test_ties_are_broken_by_the_word() -> None:
    vocabulary = Vocabulary.from_counts(COUNTS, num_sentences=3, min_count=1, max_size=None)
    assert vocabulary.words == ["</s>", "the", "cat", "dog", "ran", "sat", "<unk>", "<s>"]
    assert vocabulary.counts == [3, 3, 2, 1, 1, 1, 0, 0]  # nothing is unknown, <unk> keeps an id


def test_max_size_counts_every_entry_and_the_rest_is_unknown() -> None:
    vocabulary = Vocabulary.from_counts(COUNTS, num_sentences=3, min_count=1, max_size=5)
    assert vocabulary.words == ["</s>", "<unk>", "the", "cat", "<s>"]
    assert vocabulary.counts == [3, 3, 3, 2, 0]  # sat, ran and dog are unknown


def test_special_words_spelt_out_in_the_text_are_unknown_words() -> None:
    counts = Counter({"a": 5, "<s>": 4, "</s>": 3, "<unk>": 2, "rare": 1})
    vocabulary = Vocabulary.from_counts(counts, num_sentences=1, min_count=2, max_size=None)
    assert vocabulary.words == ["<unk>", "a", "</s>", "<s>"]
    assert vocabulary.counts == [10, 5, 1, 0]  # 4 + 3 + 2 + 1 unknown
    assert vocabulary.encode(["<s>", "</s>", "<unk>", "a"]) == [0, 0, 0, 1]


def test_a_vocabulary_without_words_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.min_count=9"):
        Vocabulary.from_counts(COUNTS, num_sentences=3, min_count=9, max_size=None)


WORDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=5)


@given(
    counts=st.dictionaries(WORDS, st.integers(1, 50), min_size=1, max_size=30),
    num_sentences=st.integers(1, 50),
    max_size=st.none() | st.integers(4, 20),
)
def test_every_vocabulary_is_complete_and_survives_its_file(
    counts: dict[str, int], num_sentences: int, max_size: int | None
) -> None:
    vocabulary = Vocabulary.from_counts(counts, num_sentences, min_count=1, max_size=max_size)
    assert sum(vocabulary.counts) == sum(counts.values()) + num_sentences  # every predicted token is counted once
    assert vocabulary.counts == sorted(vocabulary.counts, reverse=True)
    assert len(vocabulary) <= (max_size or len(counts) + 3)
    ids = vocabulary.encode(counts)
    assert all(vocabulary.words[i] in (word, "<unk>") for i, word in zip(ids, counts, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocabulary.txt"
        vocabulary.save(file)
        loaded = Vocabulary.load(file)
        assert list(Path(folder).iterdir()) == [file]
    assert (loaded.words, loaded.counts) == (vocabulary.words, vocabulary.counts)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "the\t3\n</s>\t2\n<unk>\t1\n",  # cut short: no <s>
        "the\t3\n</s>\t2\n<unk>\n",  # cut short in a line
        "the\t3\n</s>\tmany\n<unk>\t1\n<s>\t0\n",
        "the\t3\n</s>\t4\n<unk>\t1\n<s>\t0\n",  # not falling
        "the\t3\nthe\t3\n</s>\t2\n<unk>\t1\n<s>\t0\n",  # a word twice
        "the\t3\n<unk>\t1\n<s>\t0\n",  # no </s>
        "\t3\n</s>\t2\n<unk>\t1\n<s>\t0\n",
    ],
)
def test_a_damaged_file_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "vocabulary.txt"
    file.write_text(content)
    with pytest.raises(UserError, match=r"vocabulary\.txt is not a"):
        Vocabulary.load(file)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the vocabulary"):
        Vocabulary.load(tmp_path / "missing.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot read the vocabulary"):
        Vocabulary.load(tmp_path / "binary.txt")


def test_the_fingerprint_is_of_words_and_their_order_not_of_counts() -> None:
    def fingerprint(*words: str) -> str:
        return Vocabulary([*words, "<s>"], list(range(len(words), -1, -1))).fingerprint

    one = fingerprint("a", "b", "</s>", "<unk>")
    assert one != fingerprint("b", "a", "</s>", "<unk>")
    assert one != fingerprint("ab", "</s>", "<unk>")
    assert one == Vocabulary(["a", "b", "</s>", "<unk>", "<s>"], [9, 9, 9, 9, 0]).fingerprint
