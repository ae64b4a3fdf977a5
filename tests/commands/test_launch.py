"""Processes of one run: who starts them, and what is said of one that fails."""

import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from outrageous.commands import launch as launch_module
from outrageous.commands.compose import run_config
from outrageous.commands.launch import launch, must_launch
from outrageous.config import TrainerConfig
from outrageous.errors import UserError


def trainer(*settings: str) -> TrainerConfig:
    return run_config(["experiment=lm/moe_4", *settings]).trainer


def of_torchrun(patch: pytest.MonkeyPatch, num_processes: int, num_here: int) -> None:
    """Surroundings as it leaves them to its processes."""
    for name, value in {"TORCHELASTIC_RUN_ID": 1, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_here}.items():
        patch.setenv(name, str(value))


def of_srun(patch: pytest.MonkeyPatch, num_tasks: int, num_nodes: int) -> None:
    for name, value in {"SLURM_STEP_ID": 0, "SLURM_NTASKS": num_tasks, "SLURM_NNODES": num_nodes}.items():
        patch.setenv(name, str(value))


@pytest.fixture
def run_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that has two processes run some lines, with `rank`, instead of a training."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(launch_module, "MODULE", "instead_of_training")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lines = "import os, pathlib, signal, sys, time\nrank = int(os.environ['RANK'])\n"

    def run(script: str) -> None:
        (tmp_path / "instead_of_training.py").write_text(lines + script)
        launch(trainer("trainer=expert_parallel", "trainer.devices=2"), [str(tmp_path)])

    return run


def test_one_process_and_those_of_torchrun_and_srun_are_not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not must_launch(trainer())
    several = trainer("trainer=ddp", "trainer.devices=2")
    assert must_launch(several)
    with monkeypatch.context() as patch:
        of_torchrun(patch, 2, 2)
        assert not must_launch(several)
    with monkeypatch.context() as patch:
        of_torchrun(patch, 1, 1)
        assert not must_launch(trainer())
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_STEP_ID", "0")
        assert must_launch(several)
        of_srun(patch, 2, 1)
        assert not must_launch(several)


def test_processes_that_would_each_train_the_whole_run_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = "add trainer=ddp or trainer=expert_parallel, and trainer.devices=4 trainer.num_nodes=2"
    with monkeypatch.context() as patch:
        of_torchrun(patch, 8, 4)
        with pytest.raises(UserError, match=f"torchrun has started 8 processes, .* {remedy}$"):
            must_launch(trainer())
    of_srun(monkeypatch, 8, 2)
    with pytest.raises(UserError, match=f"srun has started 8 processes, .* {remedy}$"):
        must_launch(trainer())


@pytest.mark.parametrize(("devices", "num_nodes"), [(4, 1), (8, 1), (2, 4), (1, 1)])
def test_another_number_of_processes_than_the_settings_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, devices: int, num_nodes: int
) -> None:
    several = trainer("trainer=ddp", f"trainer.devices={devices}", f"trainer.num_nodes={num_nodes}")
    settings = f"but trainer.devices={devices} trainer.num_nodes={num_nodes} are {devices * num_nodes}: set "
    started = f"has started 8 processes, 4 on each machine, {settings}trainer.devices=4 trainer.num_nodes=2, or"
    with monkeypatch.context() as patch:
        of_torchrun(patch, 8, 4)
        assert not must_launch(trainer("trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2"))
        with pytest.raises(UserError, match=f"^torchrun {started}"):
            must_launch(several)
    of_srun(monkeypatch, 8, 2)
    with pytest.raises(UserError, match=f"^srun {started}"):
        must_launch(several)


def test_several_machines_are_left_to_torchrun() -> None:
    with pytest.raises(
        UserError, match="torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m"
    ):
        must_launch(trainer("trainer=expert_parallel", "trainer.devices=4", "trainer.num_nodes=2"))


def test_a_sweep_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    several = trainer("trainer=expert_parallel", "trainer.devices=2")
    assert must_launch(several, in_sweep=True)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(UserError, match=r"a sweep .* give the command without torchrun"):
        must_launch(several, in_sweep=True)


def test_a_sweep_under_srun_is_refused_but_that_of_hydras_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    several = trainer("trainer=expert_parallel", "trainer.devices=2")
    of_srun(monkeypatch, 2, 1)
    with pytest.raises(UserError, match=r"a sweep .* with hydra/launcher=slurm"):
        must_launch(several, in_sweep=True)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert not must_launch(several, in_sweep=True)


def test_restarts_that_would_hang_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    several = trainer("trainer=expert_parallel", "trainer.devices=2")
    of_torchrun(monkeypatch, 2, 2)
    for name, value in (("MAX_RESTARTS", "0"), ("USE_AGENT_STORE", "True")):
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    assert not must_launch(several)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(UserError, match=r"--max-restarts 3: .* TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        must_launch(several)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    assert not must_launch(several)


def test_every_process_is_given_the_settings(run_script: Callable[[str], None], tmp_path: Path) -> None:
    run_script("pathlib.Path(sys.argv[1], f'here_{rank}').touch()")
    assert {file.name for file in tmp_path.glob("here_*")} == {"here_0", "here_1"}
    assert not list(tmp_path.glob("outrageous-*"))


def test_a_killed_process_is_named_and_the_others_are_stopped(
    run_script: Callable[[str], None], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="process 1 of 2 was killed by SIGKILL"):
        run_script(
            "if rank: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)\npathlib.Path(sys.argv[1], 'late').touch()"
        )
    assert not (tmp_path / "late").exists()


def test_what_another_process_said_last_is_told(run_script: Callable[[str], None], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"process 1 of 2 ended with code 3: it hurts \(all of it: ") as caught:
        run_script("if rank: print('much\\nit hurts', file=sys.stderr); sys.exit(3)\ntime.sleep(60)")
    (log,) = tmp_path.glob("outrageous-*")  # nothing else is left
    assert str(caught.value).endswith(f"(all of it: {log})")
    assert log.read_text() == "much\nit hurts\n"


def test_a_mistake_that_the_first_process_has_told_is_not_told_again(run_script: Callable[[str], None]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_script("if not rank: sys.exit(2)\ntime.sleep(60)")
    assert caught.value.code == 2


def test_an_interrupt_stops_all(run_script: Callable[[str], None]) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            run_script("if rank: os.kill(os.getppid(), signal.SIGINT)\ntime.sleep(60)")
    finally:
        signal.signal(signal.SIGINT, before)
