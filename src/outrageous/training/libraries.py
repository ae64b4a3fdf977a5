"""Keeps the libraries we build on from burying our own output."""

import logging
import warnings


def quieten() -> None:
    """Silences notices that say what our own output says, or do not concern a user."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")  # batching in the main process keeps up
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")  # a run that goes on
    warnings.filterwarnings("ignore", ".*LSTM with projections is not supported with oneDNN.*")
    warnings.filterwarnings("ignore", ".*mid-epoch.*")  # our batch order can be resumed in mid-epoch
    warnings.filterwarnings("ignore", ".*`log_every_n_steps=.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")  # Lightning's use of torch, not ours
