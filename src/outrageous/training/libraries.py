"""Sets the libraries we build on as training wants them: fast on a CPU, and not burying our own output."""

import logging
import warnings

import torch


def set_up_cpu(num_threads: int | None) -> None:
    """Threads of this process (None: PyTorch's default), and numbers below 1e-38 taken as zero.

    Such numbers are a hundred times slower to compute with, and the load's gradient is full of them: the normal density
    far from a gate's threshold. With 256 experts the backward pass takes a third of the time without them.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    torch.set_flush_denormal(True)


def quieten() -> None:
    """Silences notices that say what our own output says, or do not concern a user."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")  # batching in the main process keeps up
    warnings.filterwarnings("ignore", ".*LSTM with projections is not supported with oneDNN.*")
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")  # ours is: SentenceDataModule
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")  # a small text
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")  # Lightning's use of torch, not ours
