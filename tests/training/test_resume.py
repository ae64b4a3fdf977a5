"""A run broken off and given again equals an uninterrupted one: batches, losses, weights, curve and metrics."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import wandb

from outrageous.config import RunConfig
from outrageous.results.records import Record
from outrageous.training import run as run_module
from outrageous.training.callbacks import Meter
from outrageous.training.checkpoints import read_checkpoint
from outrageous.training.run import run
from outrageous.training.run_folder import RunFolder

# Lightning cannot know that the batches go on where they stopped.
pytestmark = pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable")

# An epoch of the tiny corpus has 16 batches.
# Everything random takes part: dropout, the gate's noise, the sampled classes, the order of the batches.
RANDOM = ("experiment=lm/moe_32", "model.moe.num_experts=6", "model.dropout=0.2", "trainer.max_epochs=2")


class Killed(BaseException):
    """Nobody catches it: the run ends where it is raised."""


def kill() -> None:
    raise Killed


class Watch(pl.Callback):
    """Notes the sentences and the loss of each step, and ends the run at the start of a given one."""

    def __init__(self, end_in: int | None, end: Callable[[], None]) -> None:
        self.end_in, self.end = end_in, end
        self.steps: dict[int, tuple[list[Any], float]] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step + 1 == self.end_in:
            self.end()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert trainer.global_step not in self.steps
        self.steps[trainer.global_step] = (batch.targets.tolist(), outputs["loss"].item())


def run_watched(config: RunConfig, end_in: int | None = None, end: Callable[[], None] = kill) -> tuple[Record, Watch]:
    """Calls `run` with a `Watch`."""
    watch = Watch(end_in, end)
    build_trainer = run_module.build_trainer

    def build_watched(config: RunConfig, folder: RunFolder, meter: Meter) -> pl.Trainer:
        trainer = build_trainer(config, folder, meter)
        trainer.callbacks.insert(0, watch)  # type: ignore[attr-defined]
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "build_trainer", build_watched)
        try:
            record, _ = run(config, row=None)
        except Killed:
            assert end_in is not None
            wandb.finish()  # what the end of a process does
            return None, watch  # type: ignore[return-value]
    return record, watch


def last_checkpoint(runs: Path) -> Path:
    (path,) = runs.rglob("last.ckpt")
    return path


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(checkpoint)["state_dict"]
    return state


@dataclass
class Whole:
    """An uninterrupted run to compare with."""

    record: Record
    steps: dict[int, tuple[list[Any], float]]
    runs: Path

    def assert_equals(self, record: Record, runs: Path) -> None:
        assert record.metrics == self.record.metrics
        assert record.curve == self.record.curve
        assert record.words_trained == self.record.words_trained
        for name in ("last.ckpt", "best.ckpt"):
            (mine,), (theirs,) = runs.rglob(name), self.runs.rglob(name)
            torch.testing.assert_close(weights(mine), weights(theirs), rtol=0, atol=0)


@pytest.fixture(scope="module")
def whole(settings: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Whole]:
    """A function from overrides to the uninterrupted run, trained once."""
    trained: dict[tuple[str, ...], Whole] = {}

    def get(*overrides: str) -> Whole:
        if overrides not in trained:
            runs = tmp_path_factory.mktemp("whole")
            record, watch = run_watched(settings(runs, *RANDOM, *overrides))
            trained[overrides] = Whole(record, watch.steps, runs)
        return trained[overrides]

    return get


@pytest.mark.parametrize(
    ("overrides", "end_in", "goes_on_from", "num_steps"),
    [
        pytest.param(["trainer.validate_every=5"], 8, 5, 32, id="mid-epoch"),
        pytest.param(["trainer.validate_every=5"], 4, 0, 32, id="before-the-first-checkpoint"),
        pytest.param(["trainer.validate_every=5"], 16, 15, 32, id="before-the-last-step-of-an-epoch"),
        pytest.param(["trainer.validate_every=5"], 24, 20, 32, id="second-epoch"),
        pytest.param(["trainer.validate_every=8"], 17, 16, 32, id="end-of-an-epoch"),
        pytest.param(["trainer.validate_every=8"], 9, 8, 32, id="right-after-a-checkpoint"),
        pytest.param(["trainer.validate_every=8", "trainer.max_steps=27"], 20, 16, 27, id="max-steps-end-of-epoch"),
        pytest.param(["trainer.validate_every=5", "trainer.max_steps=27"], 24, 20, 27, id="max-steps-second-epoch"),
    ],
)
def test_an_interrupted_run_equals_an_uninterrupted_one(
    settings: Callable[..., RunConfig],
    whole: Callable[..., Whole],
    tmp_path: Path,
    overrides: list[str],
    end_in: int,
    goes_on_from: int,
    num_steps: int,
) -> None:
    config = settings(tmp_path, *RANDOM, *overrides)
    _, before = run_watched(config, end_in)
    record, after = run_watched(config)

    assert list(before.steps) == list(range(1, end_in))
    assert list(after.steps) == list(range(goes_on_from + 1, num_steps + 1))
    assert before.steps | after.steps == whole(*overrides).steps
    whole(*overrides).assert_equals(record, tmp_path)


@pytest.mark.parametrize("optim", ["optim=factored_adam", "optim=gradient_free", "optim.tables=sparse_adam"])
def test_an_interrupted_run_goes_on_with_other_moments(
    settings: Callable[..., RunConfig], whole: Callable[..., Whole], tmp_path: Path, optim: str
) -> None:
    overrides = ("trainer.validate_every=5", "trainer.max_steps=12", optim)
    config = settings(tmp_path, *RANDOM, *overrides)
    run_watched(config, 8)
    record, after = run_watched(config)
    assert min(after.steps) == 6
    whole(*overrides).assert_equals(record, tmp_path)
    assert whole(*overrides).steps[6] == after.steps[6]


def test_a_run_interrupted_twice(
    settings: Callable[..., RunConfig], whole: Callable[..., Whole], tmp_path: Path
) -> None:
    config = settings(tmp_path, *RANDOM, "trainer.validate_every=5")
    run_watched(config, 13)
    run_watched(config, 28)
    record, last = run_watched(config)
    assert min(last.steps) == 26
    whole("trainer.validate_every=5").assert_equals(record, tmp_path)


def test_a_run_killed_between_its_last_step_and_its_record(
    settings: Callable[..., RunConfig], whole: Callable[..., Whole], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path, *RANDOM, "trainer.validate_every=5")  # the 32nd step is validated out of turn
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "load_weights", lambda *_: kill())
        run_watched(config, end_in=99)
    assert not list(tmp_path.rglob("record.json"))
    record, again = run_watched(config)
    assert again.steps == {}
    whole("trainer.validate_every=5").assert_equals(record, tmp_path)


def test_a_run_killed_while_it_writes_a_checkpoint(
    settings: Callable[..., RunConfig], whole: Callable[..., Whole], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between best.ckpt of step 10 and last.ckpt of step 10: best.ckpt is ahead of last.ckpt, and is written again."""
    config = settings(tmp_path, *RANDOM, "trainer.validate_every=5")
    replace = os.replace

    def killed_at_the_second_last(source: Any, target: Any) -> None:
        if Path(target).name == "last.ckpt" and Path(target).exists():
            kill()
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed_at_the_second_last)
        run_watched(config, end_in=99)
    assert read_checkpoint(last_checkpoint(tmp_path))["global_step"] == 5
    record, _ = run_watched(config)
    whole("trainer.validate_every=5").assert_equals(record, tmp_path)
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_whose_folder_was_moved_keeps_its_best_weights(
    settings: Callable[..., RunConfig], whole: Callable[..., Whole], tmp_path: Path
) -> None:
    run_watched(settings(tmp_path / "here", *RANDOM, "trainer.validate_every=5"), 24)
    (tmp_path / "here").rename(tmp_path / "there")
    record, _ = run_watched(settings(tmp_path / "there", *RANDOM, "trainer.validate_every=5"))
    whole("trainer.validate_every=5").assert_equals(record, tmp_path / "there")


def test_a_run_ended_by_sigkill(
    settings: Callable[..., RunConfig],
    whole: Callable[..., Whole],
    tmp_path: Path,
    in_child: Callable[..., tuple[int, str]],
) -> None:
    config = settings(tmp_path / "runs", *RANDOM, "trainer.validate_every=5")
    exit_code, _ = in_child(lambda: run_watched(config, 23, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert exit_code == -signal.SIGKILL
    record, after = run_watched(config)
    assert min(after.steps) == 21
    whole("trainer.validate_every=5").assert_equals(record, tmp_path / "runs")


def test_a_run_that_looks_at_the_dev_part_at_shares_of_a_pass_goes_on(
    settings: Callable[..., RunConfig],
    whole: Callable[..., Whole],
    tmp_path: Path,
    in_child: Callable[..., tuple[int, str]],
) -> None:
    every = "trainer.validate_every=0.3"  # of 16 steps a pass: 4.8, so every 4
    config = settings(tmp_path / "runs", *RANDOM, every)
    in_child(lambda: run_watched(config, 11, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    record, after = run_watched(config)
    assert min(after.steps) == 9
    assert [point.step for point in record.curve] == [4, 8, 12, 16, 20, 24, 28, 32]
    whole(every).assert_equals(record, tmp_path / "runs")


@pytest.mark.parametrize(
    ("ending", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_ctrl_c_and_sigterm_say_from_where_the_run_goes_on(
    settings: Callable[..., RunConfig],
    tmp_path: Path,
    in_child: Callable[..., tuple[int, str]],
    ending: signal.Signals,
    exit_code: int,
) -> None:
    config = settings(tmp_path / "runs", "trainer.validate_every=5")
    ended, errors = in_child(lambda: run_watched(config, 8, lambda: os.kill(os.getpid(), ending)))
    path = last_checkpoint(tmp_path / "runs")
    assert ended == exit_code
    assert f"Stopped: the same command goes on from step 5, saved in {path}" in errors
    assert "Traceback" not in errors
    assert read_checkpoint(path)["global_step"] == 5


def test_ctrl_c_before_the_first_checkpoint_says_so(
    settings: Callable[..., RunConfig], tmp_path: Path, in_child: Callable[..., tuple[int, str]]
) -> None:
    config = settings(tmp_path / "runs", "trainer.validate_every=5")
    _, errors = in_child(lambda: run_watched(config, 3, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert "Stopped: no checkpoint was saved yet; the same command starts anew" in errors
