"""A corpus of shards: the same as one made from lines, whatever interrupts it."""

import multiprocessing
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outrageous.config import CorpusConfig, Source
from outrageous.data import sharded_build, shards, workers
from outrageous.data.corpus import Corpus, prepare_corpus
from outrageous.data.packing import PackedSentences
from outrageous.data.sharded_build import forget_rarest
from outrageous.errors import UserError

LETTERS = "abcdefghijklmnop"


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests that need several say so."""
    monkeypatch.setattr(workers, "num_processes", lambda: 1)


def sentences(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(LETTERS, k=draw.randint(1, 9))) for _ in range(count)]


@pytest.fixture
def config(tmp_path: Path) -> CorpusConfig:
    """Four shards of 50 sentences for training, one each for dev and test."""
    for number in range(6):
        (tmp_path / f"shard-{number}").write_text("".join(f"{line}\n" for line in sentences(number, 50)))
    return CorpusConfig(
        name="shards",
        source=Source.shards,
        path=str(tmp_path / "shard-[0-3]"),
        dev_path=str(tmp_path / "shard-4"),
        test_path=str(tmp_path / "shard-5"),
        tokeniser="whitespace",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prepared"


def decoded(corpus: Corpus, part: PackedSentences) -> list[str]:
    rows = part.gather(np.arange(len(part)))
    words = corpus.vocabulary.words
    return [" ".join(words[i] for i in row[: n - 1]) for row, n in zip(rows, part.lengths, strict=True)]


def content(corpus_folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in corpus_folder.iterdir()}


def test_parts_are_the_files_as_they_stand(config: CorpusConfig, folder: Path) -> None:
    corpus = prepare_corpus(config, folder)
    training = [line for number in range(4) for line in sentences(number, 50)]
    assert decoded(corpus, corpus.train) == training  # every letter is frequent, none unknown
    assert decoded(corpus, corpus.dev) == sentences(4, 50)  # sentences of training among them: nothing is dropped
    assert decoded(corpus, corpus.test) == sentences(5, 50)
    counts = Counter(" ".join(training).split())
    assert dict(zip(corpus.vocabulary.words, corpus.vocabulary.counts, strict=True)) == {
        **counts,
        "</s>": 200,
        "<unk>": 0,
        "<s>": 0,
    }
    assert corpus.meta["parts"]["train"] == {
        "sentences": 200,
        "words": counts.total(),
        "predicted_tokens": counts.total() + 200,
        "oov": 0,
        "duplicates_dropped": 0,
    }
    (target,) = folder.glob("shards-*")
    assert sorted(content(target)) == ["dev.arrow", "meta.json", "test.arrow", "train.arrow", "vocabulary.txt"]


def test_rare_words_are_unknown(config: CorpusConfig, folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "shard-3").open("a") as stream:
        stream.write("rare rare words\n")
    with (tmp_path / "shard-5").open("a") as stream:
        stream.write("rare words words\n")
    config.max_size = 10  # seven letters
    corpus = prepare_corpus(config, folder)
    known = {*corpus.vocabulary.words[:-1]} - {"</s>", "<unk>"}
    lines = [*sentences(5, 50), "rare words words"]
    assert len(known) == 7
    assert corpus.meta["parts"]["test"]["oov"] == sum(word not in known for line in lines for word in line.split())
    assert corpus.meta["parts"]["train"]["oov"] == corpus.vocabulary.counts[corpus.vocabulary.unk_id]


def test_one_process_makes_the_same_as_several(
    config: CorpusConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_corpus(config, folder / "one")
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(workers, "num_processes", lambda: 2)
    prepare_corpus(config, folder / "several")
    several, one = (next((folder / name).glob("shards-*")) for name in ("several", "one"))
    assert content(several) == content(one)


@pytest.mark.parametrize("num_steps", [1, 3, 5])
def test_a_build_killed_anywhere_goes_on_and_ends_the_same(
    num_steps: int, config: CorpusConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps: four shards counted, six encoded, of which so many are done when the process is killed."""
    prepare_corpus(config, folder / "undisturbed")
    done: list[str] = []

    def dying(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            if len(done) == 2 * num_steps - 1:
                Path(f"{arguments[1]}.half").write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)
            done.append("")
            function(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(sharded_build, "count_shard", dying(shards.count_shard))
        patch.setattr(sharded_build, "encode_shard", dying(shards.encode_shard))
        child = multiprocessing.get_context("fork").Process(target=prepare_corpus, args=(config, folder / "killed"))
        child.start()
        child.join(timeout=60)
    assert child.exitcode == -signal.SIGKILL
    (part,) = (folder / "killed").glob(".shards-*.part")
    kept = {file.name: file.stat().st_mtime_ns for file in part.iterdir()}
    assert len([name for name in kept if name.endswith((".counts", ".ids"))]) == 2 * num_steps - 1
    again = [0]

    def counted(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            again[0] += 1
            function(*arguments)

        return call

    monkeypatch.setattr(sharded_build, "count_shard", counted(shards.count_shard))
    monkeypatch.setattr(sharded_build, "encode_shard", counted(shards.encode_shard))
    prepare_corpus(config, folder / "killed")
    assert again == [10 - (2 * num_steps - 1)]
    undisturbed, killed = (next((folder / name).glob("shards-*")) for name in ("undisturbed", "killed"))
    assert content(undisturbed) == content(killed)


def die_at_the_last(source: Path, target: Path) -> None:
    if source.name == "shard-3":
        os.kill(os.getpid(), signal.SIGKILL)
    shards.count_shard(source, target)


def test_a_killed_helper_is_one_message_and_nothing_is_lost(
    config: CorpusConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(workers, "num_processes", lambda: 2)
    with monkeypatch.context() as patch:
        patch.setattr(sharded_build, "count_shard", die_at_the_last)
        with pytest.raises(UserError, match="was killed, perhaps for want of memory; the same command goes on"):
            prepare_corpus(config, folder)
    assert list(folder.glob(".shards-*.part/*.counts"))
    assert len(prepare_corpus(config, folder).train) == 200


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_disk_that_fills_up_is_one_clear_message_and_what_was_finished_is_kept(
    config: CorpusConfig,
    folder: Path,
    small_disk: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    num_processes: int,
) -> None:
    """Each file takes a page of 4 kB: counts of four shards, the vocabulary, then the six files of ids."""
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(workers, "num_processes", lambda: num_processes)
    prepare_corpus(config, folder)
    disk = small_disk("32k")
    with pytest.raises(UserError, match=r"No space left on device.*; make room .* give the command again"):
        prepare_corpus(config, disk)
    (part,) = disk.glob(".shards-*.part")
    assert len(list(part.glob("*.counts"))) == 4
    assert (part / "vocabulary.txt").exists()
    small_disk("1m")
    prepare_corpus(config, disk)
    (small,), (large,) = disk.glob("shards-*"), folder.glob("shards-*")
    assert content(small) == content(large)


def test_a_mistake_in_the_text_leaves_nothing(config: CorpusConfig, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "shard-2").write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match=r"shard-2 is not UTF-8"):
        prepare_corpus(config, folder)
    assert not [path for path in folder.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokeniser": "moses"}, "data.tokeniser=moses: shards are tokenised already"),
        ({"test_path": None}, "data.dev_path=… and data.test_path=…"),
        ({"dev_path": "nowhere"}, "data.dev_path='nowhere' matches no file"),
    ],
)
def test_settings_that_do_not_fit_shards_are_refused(
    changes: dict[str, Any], message: str, config: CorpusConfig, folder: Path
) -> None:
    with pytest.raises(UserError, match=message):
        prepare_corpus(CorpusConfig(**(vars(config) | changes)), folder)


def test_an_empty_part_is_refused(config: CorpusConfig, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "shard-4").write_text("\n")
    with pytest.raises(UserError, match="the dev part is empty"):
        prepare_corpus(config, folder)


def test_beyond_a_bound_the_rarer_words_are_counted_as_unknown() -> None:
    counts = Counter({"a": 9, "b": 5, "c": 3, "d": 2, "e": 1})
    forget_rarest(counts, 5)
    assert counts == {"a": 9, "b": 5, "c": 3, "d": 2, "e": 1}
    forget_rarest(counts, 4)
    assert counts == {"a": 9, "b": 5, "<unk>": 6}
