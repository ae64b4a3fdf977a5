"""A tiny corpus, runs on it that take a second, and processes to end them in."""

import multiprocessing
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb

from outrageous.commands.compose import run_config
from outrageous.config import RunConfig
from outrageous.data.corpus import Corpus, prepare_corpus

SYLLABLES = ("ba", "ko", "ri", "tu", "ne", "sha", "lo", "mi")


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 sentences of 3 to 14 words of a vocabulary of 64, drawn by Zipf's law."""
    draw = random.Random(0)
    words = [first + second for first in SYLLABLES for second in SYLLABLES]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    lines = [" ".join(draw.choices(words, weights, k=draw.randint(3, 14))) for _ in range(400)]
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def settings(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunConfig]:
    """A function from a folder for runs and overrides to settings on the tiny corpus: lm/moe_4, 16 steps an epoch."""
    on_tiny_corpus = [
        "scale=smoke",
        "data=text",
        f"data.path={text}",
        "data.block_lines=10",
        "data.dev_fraction=0.1",
        "data.test_fraction=0.1",
        "data.min_count=1",
        "model.num_sampled=16",
        "trainer.max_steps=-1",
        "trainer.words_per_batch=200",
        "trainer.num_threads=1",
        "trainer.accelerator=cpu",
        f"paths.corpora={tmp_path_factory.mktemp('corpora')}",
    ]

    def make(runs: Path, *overrides: str) -> RunConfig:
        named = any(override.startswith("experiment=") for override in overrides)
        experiment = [] if named else ["experiment=lm/moe_4"]
        return run_config([*experiment, *on_tiny_corpus, f"paths.runs={runs}", *overrides])

    return make


@pytest.fixture(scope="session")
def corpus(settings: Callable[..., RunConfig]) -> Corpus:
    """The tiny corpus itself."""
    config = settings(Path("runs"))
    return prepare_corpus(config.data, Path(config.paths.corpora))


@pytest.fixture(autouse=True)
def no_open_wandb_run() -> Iterator[None]:
    """A run that was broken off leaves its W&B run open, and the next one in this process would write to it."""
    yield
    wandb.finish()


@pytest.fixture
def in_child(tmp_path: Path) -> Callable[[Callable[[], object]], tuple[int, str]]:
    """A function that calls another in a process of its own and returns exit code (minus the signal) and stderr."""

    def call(function: Callable[[], object]) -> tuple[int, str]:
        output = tmp_path / "stderr.txt"

        def with_output() -> None:
            with output.open("w") as stream:
                os.dup2(stream.fileno(), sys.stderr.fileno())
                sys.stderr = stream
                function()

        child = multiprocessing.get_context("fork").Process(target=with_output)
        child.start()
        child.join(timeout=120)
        assert child.exitcode is not None
        return child.exitcode, output.read_text()

    return call
