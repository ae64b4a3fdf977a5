"""A tiny corpus, runs on it that take a second, and processes to end them in."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb

from outrageous.commands.compose import run_config
from outrageous.config import RunConfig
from outrageous.data.corpus import Corpus, prepare_corpus


@pytest.fixture(scope="session")
def settings(tiny_corpus: list[str]) -> Callable[..., RunConfig]:
    """A function from a folder for runs and overrides to settings on the tiny corpus: lm/moe_4, 16 steps an epoch."""

    def make(runs: Path, *overrides: str) -> RunConfig:
        named = any(override.startswith("experiment=") for override in overrides)
        experiment = [] if named else ["experiment=lm/moe_4"]
        return run_config([*experiment, *tiny_corpus, f"paths.runs={runs}", *overrides])

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
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
            with output.open("w") as stream:
                os.dup2(stream.fileno(), sys.stderr.fileno())
                sys.stderr = stream
                function()

        child = multiprocessing.get_context("fork").Process(target=with_output)
        child.start()
        child.join(timeout=120)
        exit_code = child.exitcode
        child.kill()  # one that hangs would be waited for when the tests end
        assert exit_code is not None, "the child hangs"
        return exit_code, output.read_text()

    return call
