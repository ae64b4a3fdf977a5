"""Wordpieces: learnt alike every time, whole texts back, and no model that is not ours."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceTrainer

from outrageous.data.wordpieces import Wordpieces, evenly, learn_wordpieces
from outrageous.errors import UserError

SENTENCES = [f"{first}{second} {third}{first}." for first in "abcde" for second in "efgh" for third in "aeiou"]
LETTERS = "abcdefghiou."


@pytest.fixture(scope="module")
def pieces() -> Wordpieces:
    return learn_wordpieces(SENTENCES, 40, ["de", "fr"])


def test_special_pieces_come_first_then_the_target_languages(pieces: Wordpieces) -> None:
    assert pieces.pieces(range(6)) == ["<pad>", "<s>", "</s>", "<unk>", "<2de>", "<2fr>"]
    assert (pieces.pad_id, pieces.bos_id, pieces.eos_id, pieces.unk_id) == (0, 1, 2, 3)
    assert pieces.languages == ["de", "fr"]
    assert len(pieces) == 40


def test_a_source_begins_with_its_target_language_and_both_sides_end(pieces: Wordpieces) -> None:
    (source,), (target,) = pieces.encode_sources(["ae fa."], "fr"), pieces.encode_targets(["ae fa."])
    assert source == [5, *target]
    assert target[-1] == 2
    assert not {0, 1, 2, 3, 4, 5} & {*target[:-1]}
    assert pieces.encode_targets([""]) == [[2]]
    assert pieces.encode_sources([""], "de") == [[4, 2]]


def test_with_one_target_language_there_are_no_tokens_of_languages() -> None:
    pieces = learn_wordpieces(SENTENCES, 40)
    assert pieces.languages == []
    assert pieces.encode_sources(["ae fa."], "any") == pieces.encode_targets(["ae fa."])


def test_an_unknown_target_language_is_refused(pieces: Wordpieces) -> None:
    with pytest.raises(UserError, match="target language 'xx' is unknown to these wordpieces: they have de, fr"):
        pieces.encode_sources(["ae"], "xx")


def test_a_text_cannot_ask_for_a_language_or_end_itself(pieces: Wordpieces) -> None:
    for spelt in ("<2de>", "</s>", "<s>", "<pad>"):
        (ids,) = pieces.encode_targets([f"a {spelt} b"])
        assert not {0, 1, 2, 4, 5} & {*ids[:-1]}


@given(words=st.lists(st.text(LETTERS, min_size=1), max_size=8))
def test_a_text_of_known_letters_comes_back_whole(words: list[str], pieces: Wordpieces) -> None:
    text = " ".join(words)
    for encoded in (pieces.encode_targets([text]), pieces.encode_sources([text], "de")):
        assert pieces.decode(encoded) == [text]


def test_decoding_stops_at_the_end_and_shows_what_is_unknown(pieces: Wordpieces) -> None:
    (ids,) = pieces.encode_targets(["ae §"])
    assert 3 in ids
    assert pieces.decode([ids, [*ids, *ids], [2, *ids], []]) == ["ae ⁇", "ae ⁇", "", ""]


def test_text_stays_as_it_is_written() -> None:
    """Unlike sentencepiece's default, which would make three dots of an ellipsis: references have the ellipsis."""
    odd = "a… ½ ﬁ"
    pieces = learn_wordpieces([odd, "a b c ab bc"] * 5, 16)
    assert pieces.decode(pieces.encode_targets([odd])) == [odd]


def test_the_same_text_gives_the_same_model_in_every_process(tmp_path: Path) -> None:
    sentences = [f"{word} {word[::-1]} {word * 2}" for word in map(str, range(1000, 3000))]
    code = (
        "import sys; from outrageous.data.wordpieces import evenly, learn_wordpieces\n"
        "sentences = [f'{word} {word[::-1]} {word * 2}' for word in map(str, range(1000, 3000))]\n"
        "print(learn_wordpieces(evenly(sentences, 2000, 500), 60).fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == learn_wordpieces(evenly(sentences, 2000, 500), 60).fingerprint
    assert done.stdout.strip() != learn_wordpieces(evenly(sentences, 2000, 400), 60).fingerprint


@given(num=st.integers(1, 200), most=st.integers(1, 250))
def test_a_sample_has_the_number_asked_for_spread_over_all(num: int, most: int) -> None:
    chosen = [int(number) for number in evenly(map(str, range(num)), num, most)]
    assert len(chosen) == min(num, most)
    gaps = [b - a for a, b in zip([-1, *chosen], [*chosen, num], strict=True)]
    assert max(gaps) <= -(-num // len(chosen)) + 1


def test_what_is_saved_is_loaded(pieces: Wordpieces, tmp_path: Path) -> None:
    pieces.save(tmp_path / "wordpieces.model")
    loaded = Wordpieces.load(tmp_path / "wordpieces.model")
    assert loaded.fingerprint == pieces.fingerprint
    assert loaded.encode_sources(SENTENCES, "de") == pieces.encode_sources(SENTENCES, "de")
    assert [file.name for file in tmp_path.iterdir()] == ["wordpieces.model"]


def test_a_model_that_does_not_fit_is_refused(pieces: Wordpieces, tmp_path: Path) -> None:
    file = tmp_path / "wordpieces.model"
    with pytest.raises(UserError, match=r"cannot read the wordpieces .*No such file"):
        Wordpieces.load(file)
    pieces.save(file)
    whole = file.read_bytes()
    for damaged in (b"not a model", whole[:100]):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"wordpieces\.model is not a sentencepiece model, or a truncated one"):
            Wordpieces.load(file)
    other = io.BytesIO()
    SentencePieceTrainer.train(sentence_iterator=iter(SENTENCES), model_writer=other, vocab_size=25, minloglevel=2)
    file.write_bytes(other.getvalue())
    with pytest.raises(UserError, match=r"is a sentencepiece model with other special pieces: 0 to 3 are \('<unk>'"):
        Wordpieces.load(file)


@pytest.mark.parametrize(
    ("sentences", "size", "reason"),
    [
        (["a b"], 500, "Vocabulary size too high .*<= "),
        (SENTENCES, 8, "Vocabulary size is smaller than required_chars"),
        ([], 50, "there is no text"),
    ],
)
def test_a_vocabulary_that_the_text_cannot_give_is_refused(sentences: list[str], size: int, reason: str) -> None:
    with pytest.raises(UserError, match=rf"data.vocabulary_size={size} does not fit the training text: {reason}"):
        learn_wordpieces(sentences, size)
