"""The making of a parallel corpus is interrupted anywhere and goes on, and several processes make the same."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outrageous.config import ParallelCorpusConfig
from outrageous.data import pair_texts, parallel_build, workers
from outrageous.data.parallel_corpus import prepare_parallel

# 22 rows in shards of 6: four of them, a learning of wordpieces, and the numbering of four training texts, dev and
# test on both sides, and of both directions.
NUM_STEPS = 4 + 1 + 2 * 2 * (4 + 2)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_texts, "ROWS_PER_SHARD", 6)


@pytest.fixture
def config(write_text: Callable[..., Path]) -> ParallelCorpusConfig:
    """Eleven blocks of two rows; the second of each is the same but for its digits."""
    words = ["tree", "house", "river", "stone", "bird", "cloud", "grass", "night", "water", "light", "door"]
    rows = [row for n, word in enumerate(words) for row in (f"a {word} {n}\t{word[::-1]} ein", f"no {n}\tnein {n}")]
    return ParallelCorpusConfig(
        name="tiny",
        path=str(write_text(*rows)),
        columns=["en", "de"],
        directions=["en-de", "de-en"],
        vocabulary_size=50,
        block_lines=2,
        dev_fraction=0.2,
        test_fraction=0.2,
    )


def content(folder: Path) -> dict[str, bytes]:
    (target,) = folder.glob("tiny-*")
    return {file.name: file.read_bytes() for file in target.iterdir()}


def stop_after(num_steps: int, stop: Callable[[], None], patch: pytest.MonkeyPatch) -> list[str]:
    """Has `stop` called in the step after so many; returns the names of the steps done, which grows."""
    done: list[str] = []

    def counted(module: Any, name: str) -> None:
        step = getattr(module, name)

        def call(*arguments: Any) -> Any:
            if len(done) == num_steps:
                if name == "number_texts":
                    arguments[1].with_name(f".{arguments[1].name}.1").write_bytes(b"half")
                stop()
            result = step(*arguments)
            done.append(name)
            return result

        patch.setattr(module, name, call)

    counted(pair_texts, "_write_shard")
    counted(parallel_build, "learn_wordpieces")
    counted(parallel_build, "number_texts")
    return done


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_build_interrupted_after_each_step_does_each_step_once(config: ParallelCorpusConfig, tmp_path: Path) -> None:
    prepare_parallel(config, tmp_path / "undisturbed")
    folder = tmp_path / "interrupted"
    done: list[str] = []
    for _ in range(NUM_STEPS):
        with pytest.MonkeyPatch.context() as patch:
            done_now = stop_after(1, interrupt, patch)
            if len(done) < NUM_STEPS - 1:
                with pytest.raises(KeyboardInterrupt):
                    prepare_parallel(config, folder)
            else:
                prepare_parallel(config, folder)
        done += done_now
    assert done == ["_write_shard"] * 4 + ["learn_wordpieces"] + ["number_texts"] * (NUM_STEPS - 5)
    assert content(folder) == content(tmp_path / "undisturbed")
    parts = [f"{part}.{side}.arrow" for part in ("dev", "test", "train") for side in ("source", "target")]
    texts = [f"{part}.{direction}.tsv" for part in ("dev", "test") for direction in ("en-de", "de-en")]
    assert sorted(content(folder)) == sorted([*parts, *texts, "meta.json", "wordpieces.model"])


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prepare_and_die(config: ParallelCorpusConfig, folder: Path, num_steps: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_texts, "ROWS_PER_SHARD", 6)
        stop_after(num_steps, kill, patch)
        prepare_parallel(config, folder)


@pytest.mark.parametrize("num_steps", [2, 9])  # in the third shard of text, and in the fifth that is numbered
def test_a_build_that_was_killed_goes_on_and_ends_the_same(
    num_steps: int, config: ParallelCorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_parallel(config, tmp_path / "undisturbed")
    arguments = (config, tmp_path / "killed", num_steps)
    child = multiprocessing.get_context("spawn").Process(target=prepare_and_die, args=arguments, daemon=True)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    done = stop_after(NUM_STEPS, interrupt, monkeypatch)
    prepare_parallel(config, tmp_path / "killed")
    assert len(done) == NUM_STEPS - num_steps
    assert content(tmp_path / "killed") == content(tmp_path / "undisturbed")


def test_several_processes_and_other_shards_make_the_same(
    config: ParallelCorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_parallel(config, tmp_path / "one")
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(workers, "num_processes", lambda: 2)
    prepare_parallel(config, tmp_path / "several")
    assert content(tmp_path / "several") == content(tmp_path / "one")
    monkeypatch.setattr(workers, "num_processes", lambda: 1)
    monkeypatch.setattr(pair_texts, "ROWS_PER_SHARD", 11)  # as many as there are: an empty shard follows
    whole = prepare_parallel(config, tmp_path / "whole")
    assert whole.meta["parts"] == prepare_parallel(config, tmp_path / "one").meta["parts"]
    assert content(tmp_path / "whole")["wordpieces.model"] == content(tmp_path / "one")["wordpieces.model"]


def test_stopped_while_it_clears_up_it_ends_the_same(
    config: ParallelCorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_parallel(config, tmp_path / "undisturbed")
    unlink = Path.unlink
    for number in range(0, 40, 6):  # 24 files of ids, 24 of text and four of counts
        left = iter(range(number))

        def clear_up(file: Path, missing_ok: bool = False, left: Iterator[int] = left) -> None:
            if file.suffix in (".ids", ".tsv", ".json") and next(left, None) is None:
                raise KeyboardInterrupt
            unlink(file, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", clear_up)
            with pytest.raises(KeyboardInterrupt):
                prepare_parallel(config, tmp_path / str(number))
        prepare_parallel(config, tmp_path / str(number))
        assert content(tmp_path / str(number)) == content(tmp_path / "undisturbed")
