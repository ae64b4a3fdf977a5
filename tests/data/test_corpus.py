"""Preparing a corpus: splits, duplicates, reuse, interruption and every way to fail."""

import json
import multiprocessing
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outrageous.config import CorpusConfig
from outrageous.data import build, sources
from outrageous.data.corpus import Corpus, prepare_corpus
from outrageous.data.packing import PackedSentences
from outrageous.errors import UserError

WriteText = Callable[..., Path]

# Blocks of two: 0 and 3 are training, 1 is dev, 2 is test.
LINES = (
    "the cat sat .",
    "the cat ran .",
    "the dog sat .",
    "The  CAT ran .",  # a duplicate of training, but for case and spaces
    "a bird flew .",
    "in 1790 the cat left .",  # a duplicate of training, but for digits
    "in 2026 the cat left .",
    "the end .",
)


def make_config(path: Any, **changes: Any) -> CorpusConfig:
    settings: dict[str, Any] = {
        "name": "tiny",
        "path": str(path),
        "tokeniser": "whitespace",
        "min_count": 2,
        "block_lines": 2,
        "dev_blocks": {"text.txt": [1]},
        "test_blocks": {"text.txt": [2]},
    }
    return CorpusConfig(**(settings | changes))


def decode(corpus: Corpus, sentences: PackedSentences) -> list[str]:
    rows = sentences.gather(np.arange(len(sentences)))
    return [
        " ".join(corpus.vocabulary.words[token] for token in row[:length])
        for row, length in zip(rows, sentences.lengths, strict=True)
    ]


def visible(folder: Path) -> list[str]:
    """What a preparation left in its folder, but for the lock."""
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"] if folder.exists() else []


@pytest.fixture
def config(write_text: WriteText) -> CorpusConfig:
    return make_config(write_text(*LINES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prepared"


def test_a_corpus_by_hand(config: CorpusConfig, folder: Path) -> None:
    corpus = prepare_corpus(config, folder)
    # Training: the 4, cat 3, "." 4, </s> 4; sat, ran, in, 2026, left, end once each: <unk> 6
    assert corpus.vocabulary.words == ["<unk>", ".", "</s>", "the", "cat", "<s>"]
    assert corpus.vocabulary.counts == [6, 4, 4, 4, 3, 0]
    assert decode(corpus, corpus.train) == [
        "the cat <unk> . </s>",
        "the cat <unk> . </s>",
        "<unk> <unk> the cat <unk> . </s>",
        "the <unk> . </s>",
    ]
    assert decode(corpus, corpus.dev) == ["the <unk> <unk> . </s>"]
    assert decode(corpus, corpus.test) == ["<unk> <unk> <unk> . </s>"]
    counts = ("sentences", "words", "predicted_tokens", "oov", "duplicates_dropped")
    assert [corpus.meta["parts"]["train"][count] for count in counts] == [4, 17, 21, 6, 0]
    assert [corpus.meta["parts"]["dev"][count] for count in counts] == [1, 4, 5, 2, 1]
    assert [corpus.meta["parts"]["test"][count] for count in counts] == [1, 4, 5, 3, 1]
    assert corpus.meta["held_out_blocks"] == {"dev": {"text.txt": [1]}, "test": {"text.txt": [2]}}
    assert corpus.meta["sentences_of_source"] == {"text.txt": 8}


def test_blocks_are_drawn_by_share(write_text: WriteText, folder: Path) -> None:
    lines = [f"line {i} of block {i // 5} ." for i in range(100)]
    path = write_text(*lines)
    share = {"dev_blocks": {}, "test_blocks": {}, "dev_fraction": 0.1, "test_fraction": 0.2, "block_lines": 5}
    lettered = write_text(*[line.translate(str.maketrans("0123456789", "abcdefghij")) for line in lines], name="b.txt")
    # Digits are masked, so numbered lines are all duplicates of one another.
    with pytest.raises(UserError, match="dev part is empty: every sentence of it also stands in the training part"):
        prepare_corpus(make_config(path, **share), folder)
    corpus = prepare_corpus(make_config(lettered, **share), folder)
    assert [len(part) for part in (corpus.train, corpus.dev, corpus.test)] == [70, 10, 20]
    other = prepare_corpus(make_config(lettered, **share, split_seed=1), folder)
    assert other.meta["held_out_blocks"] != corpus.meta["held_out_blocks"]


def test_several_files_are_split_each(write_text: WriteText, tmp_path: Path, folder: Path) -> None:
    for name in ("a.txt", "b.txt"):
        write_text(*(f"{name} {word} ." for word in ("one", "two", "three", "four")), name=name)
    blocks = {"dev_blocks": {"a.txt": [1]}, "test_blocks": {"b.txt": [0]}}
    corpus = prepare_corpus(make_config(tmp_path / "?.txt", min_count=1, **blocks), folder)
    assert [part["sentences"] for part in corpus.meta["parts"].values()] == [4, 2, 2]
    assert "b.txt" in corpus.vocabulary.words
    assert decode(corpus, corpus.train)[:2] == ["a.txt one . </s>", "a.txt two . </s>"]


def test_the_second_call_builds_nothing(config: CorpusConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_corpus(config, folder)
    monkeypatch.setattr(sources, "build_corpus", lambda *_: pytest.fail("built twice"))
    second = prepare_corpus(config, folder)
    assert second.fingerprint == first.fingerprint
    assert second.meta == first.meta
    assert decode(second, second.train) == decode(first, first.train)
    assert visible(folder) == [f"tiny-{first.fingerprint}"]


def test_the_fingerprint_is_of_text_and_settings_not_of_places(write_text: WriteText, folder: Path) -> None:
    path = write_text(*LINES)
    fingerprint = prepare_corpus(make_config(path), folder).fingerprint
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    moved = Path(shutil.copy(path, elsewhere))
    assert prepare_corpus(make_config(moved), elsewhere / "prepared").fingerprint == fingerprint
    assert prepare_corpus(make_config(path, min_count=1), folder).fingerprint != fingerprint
    write_text(*LINES[:-1], "the very end .")
    assert prepare_corpus(make_config(path), folder).fingerprint != fingerprint


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_preparation_leaves_nothing(
    error: type[BaseException], config: CorpusConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(build, "write_packed", interrupt)
        with pytest.raises(error):
            prepare_corpus(config, folder)
    assert visible(folder) == []
    assert len(prepare_corpus(config, folder).train) == 4


def test_what_a_killed_process_left_is_cleared_away(config: CorpusConfig, folder: Path) -> None:
    fingerprint = prepare_corpus(config, folder).fingerprint
    (folder / f"tiny-{fingerprint}").rename(folder / f".tiny-{fingerprint}.part")
    (folder / f".tiny-{fingerprint}.part" / "meta.json").unlink()
    assert len(prepare_corpus(config, folder).train) == 4
    assert visible(folder) == [f"tiny-{fingerprint}"]


def test_two_processes_prepare_once(config: CorpusConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build_slowly(*arguments: Any) -> dict[str, Any]:
        with (folder / "builds.log").open("a") as log:
            log.write("built\n")
        time.sleep(0.3)
        return build.build_corpus(*arguments)

    monkeypatch.setattr(sources, "build_corpus", build_slowly)
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=prepare_corpus, args=(config, folder)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (folder / "builds.log").read_text() == "built\n"


@pytest.mark.parametrize("damage", ["truncate", "delete", "swap", "meta", "vocabulary"])
def test_a_damaged_corpus_is_refused(damage: str, config: CorpusConfig, folder: Path) -> None:
    target = folder / f"tiny-{prepare_corpus(config, folder).fingerprint}"
    if damage == "truncate":
        data = (target / "train.arrow").read_bytes()
        (target / "train.arrow").write_bytes(data[: len(data) // 2])
    elif damage == "delete":
        (target / "dev.arrow").unlink()
    elif damage == "swap":
        (target / "dev.arrow").replace(target / "train.arrow")
        shutil.copy(target / "test.arrow", target / "dev.arrow")
    elif damage == "meta":
        (target / "meta.json").write_text('{"parts": ')
    else:
        lines = (target / "vocabulary.txt").read_text().splitlines(keepends=True)
        (target / "vocabulary.txt").write_text("".join(lines[:1] + lines[2:]))
    with pytest.raises(UserError, match=r"prepared corpus .* is damaged .* delete that folder") as caught:
        prepare_corpus(config, folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokeniser": "spaces"}, "data.tokeniser='spaces' is unknown: choose moses or whitespace"),
        ({"block_lines": 0}, "data.block_lines=0"),
        ({"min_count": 0}, "data.min_count=0"),
        ({"max_size": 3}, "data.max_size=3 must be at least 4"),
        ({"dev_fraction": 0.1, "test_fraction": 0.1}, "one pair or the other"),
        ({"dev_fraction": 0.1}, "one pair or the other"),
        ({"dev_blocks": {}, "test_blocks": {}}, "one pair or the other"),
        ({"dev_blocks": {}, "test_blocks": {}, "dev_fraction": 0.1}, "one pair or the other"),
        ({"dev_blocks": {}, "test_blocks": {}, "dev_fraction": 0.0, "test_fraction": 0.1}, "must be above 0"),
        ({"dev_blocks": {}, "test_blocks": {}, "dev_fraction": 0.5, "test_fraction": 0.5}, "sum to below 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(changes: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        prepare_corpus(make_config("never-read.txt", **changes), folder)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"there is no text in text\.txt"),
        (b" \n\n\t\n", r"there is no text in text\.txt"),
        (b"caf\xe9\n" * 8, "is not UTF-8: line 1, byte 4"),
        (b"one\ntwo\n", "has blocks 0 to 0, not 1"),
        (
            b"".join(b"%c\n" % letter for letter in b"abcdefgh"),
            r"no word of the training part occurs data\.min_count=2",
        ),
    ],
)
def test_bad_text_is_refused_and_leaves_nothing(content: bytes, message: str, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare_corpus(make_config(tmp_path / "text.txt"), folder)
    assert visible(folder) == []


def test_a_folder_that_cannot_be_written_is_refused(config: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write the prepared corpus .*Not a directory"):
        prepare_corpus(config, tmp_path / "file" / "prepared")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 4 kB, which writers see as they would a full disk. For as short as can be: the tests' own
    output may be such a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_message_and_leaves_nothing(write_text: WriteText, folder: Path) -> None:
    letters = "abcdefghij"
    path = write_text(*(" ".join(letters[int(digit)] for digit in f"{i:06}") for i in range(2000)))
    with full_disk(), pytest.raises(UserError, match=r"cannot write the prepared corpus .*File too large"):
        prepare_corpus(make_config(path), folder)
    assert visible(folder) == []


def test_meta_is_plain_json(config: CorpusConfig, folder: Path) -> None:
    corpus = prepare_corpus(config, folder)
    written = json.loads((folder / f"tiny-{corpus.fingerprint}" / "meta.json").read_text())
    assert written == corpus.meta
    assert written["made_from"]["path"][0][0] == "text.txt"
