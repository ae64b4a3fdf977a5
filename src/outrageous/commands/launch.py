"""Starts the processes of one run on this machine, and says which of them failed."""

import logging
import os
import shutil
import signal
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from outrageous.config import Strategy, TrainerConfig
from outrageous.errors import UserError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

MODULE = "outrageous.commands.train"


def must_launch(trainer: TrainerConfig, in_sweep: bool = False) -> bool:
    """Whether this process is to start those that train; not where torchrun or SLURM has started it as one of them.

    Raises UserError for several machines, each of which somebody else must start, for a sweep by processes of
    torchrun or srun, which would be those of all its runs, one after the other (Hydra's launcher makes a job of every
    run), for restarts that would hang, and for others than so many processes as the settings name.
    """
    of_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if of_torchrun and in_sweep:
        raise UserError(
            "a sweep (-m, sweep=…) under torchrun: give the command without torchrun, it starts fresh processes for "
            "every run; on several machines give torchrun one run at a time, or use hydra/launcher=slurm"
        )
    if of_torchrun:
        _check_restarts()
        _check_number(trainer, "torchrun", int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"]))
        return False
    num_tasks = int(os.environ.get("SLURM_NTASKS", 1))
    if "SLURM_STEP_ID" in os.environ and num_tasks > 1:
        if in_sweep and "SUBMITIT_EXECUTOR" not in os.environ:
            raise UserError(
                "a sweep (-m, sweep=…) under srun, whose processes would be those of all its runs: give the command "
                "without srun and with hydra/launcher=slurm, which makes a job of every run"
            )
        _check_number(trainer, "srun", num_tasks, num_tasks // int(os.environ["SLURM_NNODES"]))
        return False
    if trainer.strategy is Strategy.single:
        return False
    if trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: start the run on each machine with torchrun --nnodes "
            f"{trainer.num_nodes} --nproc-per-node {trainer.devices} --rdzv-backend c10d --rdzv-endpoint HOST:29500 "
            f"-m {MODULE} …, HOST being one of them; see docs/several_devices.md"
        )
    return True


def _check_number(trainer: TrainerConfig, starter: str, num_processes: int, num_here: int) -> None:
    """num_here: of the processes that have been started, those of one machine."""
    several = f"trainer.devices={num_here} trainer.num_nodes={num_processes // num_here}"
    if trainer.strategy is Strategy.single and num_processes > 1:
        raise UserError(
            f"{starter} has started {num_processes} processes, of which each would train the whole run: add "
            f"trainer=ddp or trainer=expert_parallel, and {several}"
        )
    if (num_processes, num_here) != (trainer.devices * trainer.num_nodes, trainer.devices):
        raise UserError(
            f"{starter} has started {num_processes} processes, {num_here} on each machine, but trainer.devices="
            f"{trainer.devices} trainer.num_nodes={trainer.num_nodes} are {trainer.devices * trainer.num_nodes}: "
            f"set {several}, or have it start as many"
        )


def _check_restarts() -> None:
    """torchrun's own store outlives a restart, and new processes read there how to reach those that are gone."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0))
    if restarts > 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise UserError(
            f"torchrun --max-restarts {restarts}: processes that it starts again would wait for those before; give it "
            "--standalone, or --rdzv-backend c10d, with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment"
        )


def launch(trainer: TrainerConfig, command_line: list[str]) -> None:
    """Runs `outrageous-train` with the command line in `trainer.devices` processes, each fresh, and waits for them.

    The first one's output is shown. Ctrl-C and SIGTERM end all of them.

    Raises:
        UserError: one failed, which is named, and the others were stopped.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    from outrageous.training.local_processes import use_loopback

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # says at length what we say in a line
    use_loopback()
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
    before = [signal.getsignal(number) for number in signals]  # elastic_launch sets its own, and leaves them
    with tempfile.TemporaryDirectory(prefix="outrageous-") as logs:
        try:
            elastic_launch(_of_this_machine(trainer.devices, logs), sys.executable)("-m", MODULE, *command_line)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode == 2 and rank == 0:
                sys.exit(2)  # which has said why
            raise UserError(f"process {rank} of {trainer.devices} {_what_happened(failure, logs)}") from error
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from error
            sys.exit(128 + error.sigval)
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)


def _of_this_machine(num_processes: int, logs: str) -> "LaunchConfig":
    """logs: the folder for the output of all processes but the first."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=dict.fromkeys(range(1, num_processes), Std.ALL)),
    )


def _what_happened(failure: "ProcessFailure", logs: str) -> str:
    """How a process ended, and the last of what it said, if nobody has seen it: that is kept beside the logs, which are
    deleted."""
    how = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with code {failure.exitcode}"
    (log,) = [*Path(logs).rglob(f"{failure.local_rank}/stderr.log"), None][:1]
    said = [line for line in log.read_text(errors="replace").split("\n") if line.strip()] if log else []
    if log is None or not said:
        return how
    return f"{how}: {said[-1]} (all of it: {shutil.copy(log, f'{logs}.log')})"
