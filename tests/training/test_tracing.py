"""A trace of training, where it is asked for."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from outrageous.config import RunConfig
from outrageous.training.run import run
from outrageous.training.run_folder import config_hash
from outrageous.training.tracing import FIRST, NUM_TRACED


@pytest.mark.parametrize("num_steps", [FIRST + NUM_TRACED, FIRST + NUM_TRACED - 1])
def test_some_steps_are_traced_if_there_are_enough(
    num_steps: int, settings: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = settings(tmp_path, f"trainer.max_steps={num_steps}", "trainer.profile=true")
    _, folder = run(config, row=None)
    assert folder.trace.exists() == (num_steps == FIRST + NUM_TRACED)
    if folder.trace.exists():
        events = [
            event.get("name", "") for event in json.loads(gzip.decompress(folder.trace.read_bytes()))["traceEvents"]
        ]
        assert sum(name.startswith("Optimizer.step") for name in events) >= NUM_TRACED
        assert "_FeedForwardBackward" in " ".join(events)


def test_a_traced_run_is_the_same_run(settings: Callable[..., RunConfig], tmp_path: Path) -> None:
    plain, traced = settings(tmp_path), settings(tmp_path, "trainer.profile=true")
    assert config_hash(plain, "text") == config_hash(traced, "text")
