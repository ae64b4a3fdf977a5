"""Preparing a parallel corpus: what is held out, left out and packed; reuse, interruption and every way to fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outrageous.config import ParallelCorpusConfig
from outrageous.data import parallel_corpus
from outrageous.data.packing import PackedSentences
from outrageous.data.pair_texts import why_left_out
from outrageous.data.parallel_corpus import prepare_parallel
from outrageous.errors import UserError

WriteText = Callable[..., Path]
WORDS = (
    "the cat",
    "a dog",
    "no bird",
    "the end",
    "one day",
    "my house",
    "a red fox",
    "old oak",
    "wet sand",
    "dry leaf",
)


def make_config(path: Any, **changes: Any) -> ParallelCorpusConfig:
    settings: dict[str, Any] = {
        "name": "tiny",
        "path": str(path),
        "columns": ["id", "en", "de"],
        "directions": ["en-de"],
        "vocabulary_size": 60,
        "dev_fraction": 0.2,
        "test_fraction": 0.2,
    }
    return ParallelCorpusConfig(**(settings | changes))


def lines(chapters: int = 10) -> list[str]:
    """Two verses a chapter, the second one telling it from the others."""
    return [
        row
        for chapter in range(chapters)
        for row in (
            f"1.{chapter}.1\tthe same {chapter}\tdasselbe",
            f"1.{chapter}.2\t{WORDS[chapter]}\t{WORDS[chapter][::-1]}",
        )
    ]


def ids(sentences: PackedSentences) -> list[list[int]]:
    rows = sentences.gather(np.arange(len(sentences)))
    return [row[:length].tolist() for row, length in zip(rows, sentences.lengths, strict=True)]


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"] if folder.exists() else []


@pytest.fixture
def config(write_text: WriteText) -> ParallelCorpusConfig:
    return make_config(write_text(*lines()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prepared"


def test_a_parallel_corpus_by_hand(config: ParallelCorpusConfig, folder: Path) -> None:
    corpus = prepare_parallel(config, folder)
    # 10 chapters: 6 of training, 2 of dev, 2 of test. Their first verses are alike but for the digit: duplicates.
    assert {part: counts["en-de"]["pairs"] for part, counts in corpus.meta["parts"].items()} == {
        "train": 12,
        "dev": 2,
        "test": 2,
    }
    assert [corpus.meta["parts"][part]["en-de"]["duplicates"] for part in ("train", "dev", "test")] == [0, 2, 2]
    pieces = corpus.vocabulary
    for part in ("dev", "test"):
        packed, (sources, references) = getattr(corpus, part), corpus.text(part, "en-de")
        assert ids(packed.source) == pieces.encode_sources(sources, "de")
        assert ids(packed.target) == pieces.encode_targets(references)
        assert [source[::-1] for source in sources] == references
        assert packed.num_predicted_tokens == corpus.meta["parts"][part]["en-de"]["target_pieces"]
    training = pieces.decode(ids(corpus.train.source))
    held_out = [*corpus.text("dev", "en-de")[0], *corpus.text("test", "en-de")[0]]
    assert sorted([text for text in training if "same" not in text] + held_out) == sorted(WORDS)
    assert corpus.weights == {"en-de": 1.0}


def test_several_directions_share_wordpieces_and_what_is_held_out(write_text: WriteText, folder: Path) -> None:
    rows = [f"{line}\t{'' if number == 1 else line.split(chr(9))[1]}x" for number, line in enumerate(lines())]
    path = write_text(*(row if not row.endswith("\tx") else row[:-1] for row in rows))
    directions = ["en-de", "de-en", "en-fr"]
    config = make_config(path, columns=["id", "en", "de", "fr"], directions=directions, weights=[1, 0.5, 2])
    corpus = prepare_parallel(config, folder)
    assert corpus.vocabulary.languages == ["de", "en", "fr"]
    assert corpus.weights == {"en-de": 1, "de-en": 0.5, "en-fr": 2}
    sources = ids(corpus.train.source)
    for direction, language in zip(directions, ("de", "en", "fr"), strict=True):
        first = {sources[row][0] for row in corpus.train.rows_of[direction]}
        assert corpus.vocabulary.pieces(first) == [f"<2{language}>"]
    counts = corpus.meta["parts"]
    assert sum(counts[part]["en-fr"]["empty"] for part in counts) == 1
    assert corpus.text("test", "en-de") == corpus.text("test", "de-en")[::-1]
    assert len(corpus.train) == sum(counts["train"][name]["pairs"] for name in directions)


def test_weights_shape_no_file(config: ParallelCorpusConfig, folder: Path) -> None:
    fingerprint = prepare_parallel(config, folder).fingerprint
    config.weights = [0.5]
    assert prepare_parallel(config, folder).fingerprint == fingerprint


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("a b", "c d", None),
        ("", "c", "empty"),
        ("a", "", "empty"),
        ("a b c d", "a b c", None),
        ("a b c d e", "a b c d", "too_long"),
        ("a", "b c d e f", "too_long"),
        ("abc", "a" * 6, None),
        ("abc", "a" * 7, "ratio"),
        ("a" * 7, "abc", "ratio"),
    ],
)
def test_which_training_pairs_are_left_out(source: str, target: str, reason: str | None) -> None:
    config = make_config("", max_words=4, max_ratio=2.0)
    assert why_left_out(source, target, config, "train") == reason
    assert why_left_out(source, target, config, "test") == (reason if reason == "empty" else None)


def test_what_is_left_out_is_counted_and_said(
    write_text: WriteText, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "one\tone" + " more" * 120
    bad = [f"1.{chapter}.{row}" for chapter in range(10) for row in ("3\tshort\t", f"4\t{long}", "5\ta\tabcdefgh")]
    corpus = prepare_parallel(make_config(write_text(*lines(), *bad)), folder)
    counts = [corpus.meta["parts"][part]["en-de"] for part in ("train", "dev", "test")]
    assert [count["empty"] for count in counts] == [6, 2, 2]
    assert [count["too_long"] for count in counts] == [6, 0, 0]  # in training only
    assert [count["ratio"] for count in counts] == [6, 0, 0]
    said = capsys.readouterr().err
    assert "en-de, train: 12 pairs; left out: 6 empty, 6 too_long, 6 ratio\n" in said


def test_a_direction_without_pairs_is_refused_and_leaves_nothing(write_text: WriteText, folder: Path) -> None:
    path = write_text(*(f"1.{chapter}.1\tthe same {chapter}\tdasselbe" for chapter in range(10)))
    with pytest.raises(UserError, match="a part without pairs: en-de, dev: 0 pairs; left out: 2 duplicates"):
        prepare_parallel(make_config(path), folder)
    assert visible(folder) == []


def test_the_second_call_builds_nothing(
    config: ParallelCorpusConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare_parallel(config, folder)
    monkeypatch.setattr(parallel_corpus, "build_parallel", lambda *_: pytest.fail("built twice"))
    second = prepare_parallel(config, folder)
    assert (second.fingerprint, second.meta) == (first.fingerprint, first.meta)
    assert second.vocabulary.fingerprint == first.vocabulary.fingerprint == first.meta["wordpieces"]["fingerprint"]
    assert ids(second.train.target) == ids(first.train.target)


def test_the_same_text_prepared_twice_is_the_same(config: ParallelCorpusConfig, tmp_path: Path) -> None:
    for name in ("a", "b"):
        prepare_parallel(config, tmp_path / name)
    one, other = (next(path for path in (tmp_path / name).iterdir() if path.is_dir()) for name in ("a", "b"))
    assert one.name == other.name
    files = sorted(file.name for file in one.iterdir())
    assert files == sorted(file.name for file in other.iterdir())
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)
    assert "train.en-de.tsv" not in files


@pytest.mark.parametrize("damage", ["truncate", "delete", "swap", "meta", "wordpieces", "other wordpieces"])
def test_a_damaged_corpus_is_refused(
    damage: str, config: ParallelCorpusConfig, folder: Path, write_text: WriteText
) -> None:
    target = folder / f"tiny-{prepare_parallel(config, folder).fingerprint}"
    if damage == "truncate":
        data = (target / "train.source.arrow").read_bytes()
        (target / "train.source.arrow").write_bytes(data[: len(data) // 2])
    elif damage == "delete":
        (target / "dev.target.arrow").unlink()
    elif damage == "swap":
        (target / "train.source.arrow").replace(target / "train.target.arrow")
        (target / "dev.source.arrow").replace(target / "train.source.arrow")
    elif damage == "meta":
        (target / "meta.json").write_text('{"parts": ')
    elif damage == "wordpieces":
        (target / "wordpieces.model").write_bytes(b"none")
    else:
        other = prepare_parallel(make_config(write_text(*lines(), name="b.txt"), vocabulary_size=50), folder)
        other.vocabulary.save(target / "wordpieces.model")
    with pytest.raises(UserError, match=r"prepared corpus .* is damaged .* delete that folder") as caught:
        prepare_parallel(config, folder)
    assert "\n" not in str(caught.value)


def test_held_out_text_that_is_not_whole_is_refused(config: ParallelCorpusConfig, folder: Path) -> None:
    corpus = prepare_parallel(config, folder)
    (corpus.folder / "test.en-de.tsv").write_text("only\tone\n")
    with pytest.raises(UserError, match=r"is damaged \(test\.en-de\.tsv does not hold what meta\.json says\)"):
        corpus.text("test", "en-de")
    (corpus.folder / "test.en-de.tsv").unlink()
    with pytest.raises(UserError, match=r"is damaged .*No such file"):
        corpus.text("test", "en-de")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [1.0, 2.0]}, r"data.weights=\[1.0, 2.0\] must be a number above 0 for each of en-de"),
        ({"weights": [0.0]}, "must be a number above 0"),
        ({"weights": [float("nan")]}, "must be a number above 0"),
        ({"block_lines": 0}, "data.block_lines=0 must be at least 1"),
        ({"max_words": 0}, "data.max_words=0"),
        ({"wordpiece_sentences": 0}, "data.wordpiece_sentences=0"),
        ({"max_ratio": 0.5}, "data.max_ratio=0.5"),
        ({"vocabulary_size": 7}, "data.vocabulary_size=7 must be at least 8"),
        ({"dev_fraction": 0.0}, "must be above 0"),
        ({"test_fraction": 0.9}, "sum to below 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(changes: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(UserError, match=message):
        prepare_parallel(make_config("never-read.tsv", **changes), folder)


def test_a_vocabulary_too_large_for_the_text_is_refused_and_leaves_nothing(
    config: ParallelCorpusConfig, folder: Path
) -> None:
    config.vocabulary_size = 5000
    with pytest.raises(UserError, match=r"data.vocabulary_size=5000 does not fit .*Vocabulary size too high"):
        prepare_parallel(config, folder)
    assert visible(folder) == []
