"""Commands of docs/several_devices.md as users give them: whoever starts the processes, a run is that of one alone."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outrageous.commands.compose import any_config, compose_train
from outrageous.parallel.processes import Processes
from outrageous.results.records import Record, read_record
from outrageous.training.run import run

Together = Callable[[Callable[[Processes], Any], int], list[Any]]
TRAIN = [sys.executable, "-m", "outrageous.commands.train"]
SEVERAL = ["trainer=expert_parallel", "trainer.devices=2"]
NEW_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": 1}  # for each start; torchrun's own has the addresses of the first
NEEDS_SUBMITIT = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None, reason="needs the extra slurm: pip install -e '.[slurm]'"
)

# Instead of outrageous-train: notes for each process the step it starts at, and kills the second one once, in step 8.
KILLED_ONCE = """
import os, pathlib, signal
from outrageous.commands import train
from outrageous.training.supervised_module import SupervisedModule

starts, rank = pathlib.Path(os.environ["STARTS"]), os.environ["RANK"]
training_step, noted = SupervisedModule.training_step, []

def step(self, batch, batch_idx):
    if not noted:
        noted.append(self.global_step)
        with starts.open("a") as file:
            file.write(f"{rank} {self.global_step}\\n")
    if rank == "1" and noted == [0] and self.global_step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return training_step(self, batch, batch_idx)

SupervisedModule.training_step = step
train.main()
"""


@pytest.fixture
def settings(tiny_corpus: list[str], tmp_path: Path) -> list[str]:
    steps = ["model.moe.num_experts=5", "trainer.max_steps=12", "trainer.validate_every=5", "model.dropout=0.2"]
    return ["experiment=lm/moe_32", *tiny_corpus, *steps, f"paths.runs={tmp_path / 'runs'}"]


@pytest.fixture
def expected(settings: list[str], together: Together, tmp_path: Path) -> Callable[..., Record]:
    """A function that gives the record of one process, with further settings."""

    def record(*further: str) -> Record:
        runs = tmp_path / "alone"
        config = any_config([*settings, "trainer=expert_parallel", *further, f"paths.runs={runs}"])
        together(lambda processes: run(config, row=None) and None, 1)
        return read_record(max(runs.rglob("record.json"), key=lambda path: path.stat().st_mtime))

    return record


def give(command: list[str], **surroundings: object) -> str:
    """Runs a command; returns what it says."""
    network = {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    env = os.environ | network | {name: str(value) for name, value in surroundings.items()}
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1200)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    return said


def assert_same(runs: Path, expected: Record) -> None:
    (path,) = runs.rglob(f"seed_{expected.seed}/*/record.json")
    record = read_record(path)
    assert record.metrics == pytest.approx(expected.metrics, rel=1e-4)
    assert record.words_trained == expected.words_trained
    assert [point.step for point in record.curve] == [5, 10, 12]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_torchrun_starts_a_run_anew_and_it_goes_on_from_its_last_checkpoint(
    settings: list[str], expected: Callable[..., Record], tmp_path: Path
) -> None:
    script, starts = tmp_path / "killed_once.py", tmp_path / "starts"
    script.write_text(KILLED_ONCE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    give([*torchrun, "--max-restarts", "1", str(script), *settings, *SEVERAL], STARTS=starts, **NEW_STORE)
    assert sorted(starts.read_text().splitlines()) == ["0 0", "0 5", "1 0", "1 5"]
    assert_same(tmp_path / "runs", expected())


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_sweep_on_several_devices_gives_each_run_its_own_numbers(
    settings: list[str], expected: Callable[..., Record], tmp_path: Path
) -> None:
    give([*TRAIN, "-m", *settings, *SEVERAL, "seed=0,1"])
    for seed in (0, 1):
        assert_same(tmp_path / "runs", expected(f"seed={seed}"))


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_processes_that_srun_starts_find_each_other(
    settings: list[str], expected: Callable[..., Record], tmp_path: Path
) -> None:
    job = {"SLURM_JOB_ID": 4242, "SLURM_JOB_NAME": "moe", "SLURM_STEP_ID": 0, "SLURM_NTASKS": 2, "SLURM_NNODES": 1}
    job |= {"SLURM_NTASKS_PER_NODE": 2, "SLURM_NODELIST": "localhost", "SLURM_NODEID": 0}
    tasks = []
    for rank in range(2):
        of_task = job | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "GLOO_SOCKET_IFNAME": "lo"}
        env = os.environ | {name: str(value) for name, value in of_task.items()}
        tasks.append(subprocess.Popen([*TRAIN, *settings, *SEVERAL], env=env))
    assert [task.wait(timeout=1200) for task in tasks] == [0, 0]
    assert_same(tmp_path / "runs", expected())


@NEEDS_SUBMITIT
def test_a_job_of_slurm_has_a_task_and_a_gpu_for_each_device() -> None:
    several = ["trainer=expert_parallel", "trainer.devices=8", "trainer.num_nodes=2"]
    config = compose_train(["experiment=lm/moe_4096_h", "hydra/launcher=slurm", *several], with_hydra=True)
    launcher = config.hydra.launcher
    assert (launcher.nodes, launcher.tasks_per_node, launcher.gpus_per_node) == (2, 8, 8)
    assert launcher._target_.endswith("SlurmLauncher")


@pytest.mark.slow
@NEEDS_SUBMITIT
@pytest.mark.timeout(2400)
def test_hydras_launcher_starts_runs_as_jobs(
    settings: list[str], expected: Callable[..., Record], tmp_path: Path
) -> None:
    give([*TRAIN, "-m", "hydra/launcher=submitit_local", *settings, *SEVERAL, "seed=0,1"])
    for seed in (0, 1):
        assert_same(tmp_path / "runs", expected(f"seed={seed}"))
