"""Sets the libraries we build on as training wants them: fast on a CPU, and not burying our own output."""

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException


def set_up_cpu(num_threads: int | None) -> None:
    """Threads of this process (None: PyTorch's default, or its share of it), and numbers below 1e-38 taken as zero.

    Such numbers are a hundred times slower to compute with, and the load's gradient is full of them: the normal density
    far from a gate's threshold. With 256 experts the backward pass takes a third of the time without them.
    """
    share = max(1, torch.get_num_threads() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    torch.set_num_threads(share if num_threads is None else num_threads)
    torch.set_flush_denormal(True)


@contextmanager
def exit_codes_of_signals() -> Iterator[None]:
    """Lightning ends with exit code 1 on Ctrl-C and with 0, as if all were done, on SIGTERM: here with 128 and the
    signal's number, as shells have it."""
    try:
        yield
    except SIGTERMException as stop:
        stop.code = 128 + signal.SIGTERM
        raise
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            stop.code = 128 + signal.SIGINT
        raise


def quieten() -> None:
    """Silences notices that say what our own output says, or do not concern a user."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")  # batching in the main process keeps up
    warnings.filterwarnings("ignore", ".*LSTM with projections is not supported with oneDNN.*")
    warnings.filterwarnings("ignore", ".*RNN module weights are not part of single contiguous.*")  # copies, in bfloat16
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")  # ours is: CorpusDataModule
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")  # a small text
    warnings.filterwarnings("ignore", ".*intent is to load in a single process.*")  # it is: experts from a folder
    warnings.filterwarnings("ignore", ".*sync_dist=True.*")  # what we log is of all processes already
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")  # Lightning's use of torch, not ours
