"""Starts the processes of one run on this machine, and says which of them failed."""

import logging
import os
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

MODULE = "outrageous.commands.train"


def must_launch(trainer: TrainerConfig, in_sweep: bool = False) -> bool:
    """Whether this process is to start those that train; not where torchrun or SLURM has started it as one of them.

    Raises UserError for several machines, each of which somebody else must start, for a sweep by processes of
    torchrun, which would be those of all its runs, one after the other, and for restarts that would hang.
    """
    of_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if of_torchrun and in_sweep:
        raise UserError(
            "a sweep (-m, sweep=…) under torchrun: give the command without torchrun, it starts fresh processes for "
            "every run; on several machines give torchrun one run at a time, or use hydra/launcher=slurm"
        )
    if of_torchrun:
        _check_restarts()
    of_srun = "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1
    if trainer.strategy is Strategy.single or of_torchrun or of_srun:
        return False
    if trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: start the run on each machine with torchrun --nnodes "
            f"{trainer.num_nodes} --nproc-per-node {trainer.devices} -m {MODULE} …, see docs/several_devices.md"
        )
    return True


def _check_restarts() -> None:
    """torchrun's own store outlives a restart, and new processes read there how to reach those that are gone."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0))
    if restarts > 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise UserError(
            f"torchrun --max-restarts {restarts}: processes that it starts again would wait for those before; give it "
            "--standalone, or --rdzv-backend c10d, with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment"
        )


def launch(trainer: TrainerConfig, overrides: list[str]) -> None:
    """Runs `outrageous-train` with the overrides in `trainer.devices` processes, each fresh, and waits for them.

    The first one's output is shown. Ctrl-C and SIGTERM end all of them.

    Raises:
        UserError: one failed, which is named, and the others were stopped.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from outrageous.training.local_processes import use_loopback

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # says at length what we say in a line
    use_loopback()
    logs = Path(tempfile.mkdtemp(prefix="outrageous-"))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=trainer.devices,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=dict.fromkeys(range(1, trainer.devices), Std.ALL)),
    )
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
    before = [signal.getsignal(number) for number in signals]  # elastic_launch sets its own, and leaves them
    try:
        elastic_launch(config, sys.executable)("-m", MODULE, *overrides)
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


def _what_happened(failure: "ProcessFailure", logs: Path) -> str:
    """How a process ended, and the last of what it said, if nobody has seen it."""
    how = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with code {failure.exitcode}"
    (log,) = [*logs.rglob(f"{failure.local_rank}/stderr.log"), None][:1]
    said = [line for line in log.read_text(errors="replace").split("\n") if line.strip()] if log else []
    return f"{how}: {said[-1]} (all of it: {log})" if said else how
