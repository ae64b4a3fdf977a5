"""What a checkpoint says of itself, and how it is read back: nothing is loaded that does not fit."""

import pickle
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from outrageous.data.corpus import Corpus
from outrageous.errors import UserError

KEY = "outrageous"


class StampedModule(pl.LightningModule):
    """Writes into every checkpoint which run it belongs to, and how that run began.

    Attributes:
        origin: JSON-ready: config, config_hash, vocabulary_fingerprint, started_at, commit, dirty. When a run goes on, its first
            start counts; if the commit has changed since, the run is dirty: no one commit made it.
    """

    def __init__(self, origin: dict[str, Any]) -> None:
        super().__init__()
        self.origin = origin

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.origin

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        first = checkpoint[KEY]
        if first["dirty"] or first["commit"] != self.origin["commit"]:
            self.origin["dirty"] = True
        self.origin["started_at"] = first["started_at"]


def best_and_last(folder: Path) -> list[ModelCheckpoint]:
    """best.ckpt: weights of the lowest dev perplexity; last.ckpt: the whole state, after every validation."""
    best = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor="dev_perplexity",
        save_top_k=1,
        save_weights_only=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(
        dirpath=folder, filename="last", monitor="step", mode="max", save_top_k=1, enable_version_counter=False
    )
    return [best, last]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint as a dictionary, on the CPU.

    Raises:
        UserError: it is missing, damaged, or none of ours.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise UserError(f"checkpoint {path} does not exist") from error
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"checkpoint {path} is damaged or no checkpoint ({_first_line(error)}); delete it") from error
    if not isinstance(checkpoint, dict) or KEY not in checkpoint or "state_dict" not in checkpoint:
        raise UserError(f"checkpoint {path} was not written by outrageous")
    return checkpoint


def check_fits(checkpoint: dict[str, Any], path: Path, corpus: Corpus) -> None:
    """Raises UserError if the checkpoint was trained with another vocabulary."""
    trained_with, given = checkpoint[KEY]["vocabulary_fingerprint"], corpus.vocabulary.fingerprint
    if trained_with != given:
        raise UserError(
            f"checkpoint {path} was trained with vocabulary {trained_with}, but the corpus has vocabulary {given} of "
            f"{len(corpus.vocabulary)} words: give the data settings that the checkpoint was trained with"
        )


def check_resumable(path: Path, config_hash: str, corpus: Corpus) -> None:
    """Raises UserError if a run with these settings cannot go on from the checkpoint."""
    checkpoint = read_checkpoint(path)
    check_fits(checkpoint, path, corpus)
    if checkpoint[KEY]["config_hash"] != config_hash:
        raise UserError(f"checkpoint {path} comes from a run with other settings: move it away to start from scratch")


def load_weights(module: StampedModule, path: Path, corpus: Corpus) -> None:
    """Loads the weights of a checkpoint, all of them and no others.

    Raises:
        UserError: the checkpoint is missing or damaged, or of another model or vocabulary.
    """
    checkpoint = read_checkpoint(path)
    check_fits(checkpoint, path, corpus)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UserError(f"checkpoint {path} is of another model: {error}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
