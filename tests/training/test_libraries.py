"""What the libraries are told."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import wandb

from outrageous.config import RunConfig
from outrageous.errors import UserError
from outrageous.training import run as run_module
from outrageous.training.callbacks import RunProgress
from outrageous.training.libraries import exit_codes_of_signals, set_up_cpu
from outrageous.training.run import run


def test_a_run_that_goes_on_in_mid_epoch_shows_no_notice_of_a_library(
    settings: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An LSTM with a projection, more steps between rows of the log than there are, a folder that holds something."""
    config = settings(tmp_path, "experiment=lm/lstm_2048_512", "trainer.validate_every=5", "trainer.log_every=100")

    def break_off(progress: RunProgress, *_: object) -> None:
        if progress.meter.curve:
            raise UserError("broken off")

    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        patch.setattr(RunProgress, "on_train_batch_start", break_off)
        with pytest.raises(UserError, match="broken off"):
            run(config, row=None)
        wandb.finish()
        patch.undo()
        assert run_module.run(config, row=None)[0].curve[-1].step == 16
    assert [str(notice.message) for notice in shown] == []
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.strip() and "step/s" not in line and "Tokenising" not in line] == []


def test_ctrl_c_that_lightning_turned_into_exit_code_1_is_130() -> None:
    def ended_by(error: BaseException) -> object:
        with pytest.raises(SystemExit) as stop, exit_codes_of_signals():  # noqa: PT012 # as Lightning does it
            try:
                raise error
            except (KeyboardInterrupt, ValueError):
                sys.exit(1)
        return stop.value.code

    assert (ended_by(KeyboardInterrupt()), ended_by(ValueError())) == (130, 1)


def test_threads_and_tiny_numbers() -> None:
    before = torch.get_num_threads()
    try:
        set_up_cpu(num_threads=2)
        assert torch.get_num_threads() == 2
        set_up_cpu(num_threads=None)
        assert torch.get_num_threads() == 2
        assert torch.tensor([1e-30]) * 1e-10 == 0  # below the smallest normal number, 1.2e-38
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)
