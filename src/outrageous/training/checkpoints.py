"""What a checkpoint says of itself, when it is written and how it is read: nothing is loaded that does not fit."""

import math
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from outrageous.data.corpus import Corpus
from outrageous.data.parallel_corpus import ParallelCorpus
from outrageous.errors import UserError
from outrageous.parallel.checkpoint_folders import KEY as FOLDER
from outrageous.parallel.checkpoint_folders import delete_others, put_back
from outrageous.parallel.processes import Processes
from outrageous.training.run_folder import RunFolder

KEY = "outrageous"


class StampedModule(pl.LightningModule):
    """Writes into every checkpoint which run it belongs to, and how that run began.

    Attributes:
        origin: JSON-ready: config, config_hash, data_fingerprint, vocabulary_fingerprint, started_at, commit, dirty.
            When a run goes on, its first start counts; if the commit has changed since, the run is dirty: no one commit
            made it.
        processes: those that train it; this one is alone until somebody says otherwise.
    """

    def __init__(self, origin: dict[str, Any]) -> None:
        super().__init__()
        self.origin = origin
        self.processes = Processes()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.origin

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        first = checkpoint[KEY]
        if first["dirty"] or first["commit"] != self.origin["commit"]:
            self.origin["dirty"] = True
        self.origin["started_at"] = first["started_at"]


class BestAndLast(Checkpoint):
    """After every validation saves best.ckpt, the weights, if the dev perplexity is the lowest so far, and last.ckpt,
    the whole state. When training breaks off, says from where it would go on.

    Attributes:
        lowest: dev perplexity of best.ckpt.
        last_step: of last.ckpt, None before the first.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.lowest = math.inf
        self.last_step: int | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        dev_perplexity = trainer.callback_metrics["dev_perplexity"].item()
        if dev_perplexity < self.lowest:
            self.lowest = dev_perplexity
            trainer.save_checkpoint(self.folder.best_checkpoint, weights_only=True)
        trainer.save_checkpoint(self.folder.last_checkpoint)
        self.last_step = trainer.global_step

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.last_step = checkpoint["global_step"]

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self.last_step is None:
            note = "no checkpoint was saved yet; the same command starts anew"
        else:
            note = f"the same command goes on from step {self.last_step}, saved in {self.folder.last_checkpoint}"
        if isinstance(exception, Exception):
            exception.add_note(note)
        else:  # Ctrl-C or SIGTERM, which nobody reports
            print(f"Stopped: {note}", file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self.lowest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lowest = state_dict["lowest"]


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is whole. Lightning's own way leads through
    memory and the system's temporary folder, which may be small or on another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Raises UserError if it cannot be written; what stood in its place is still there."""
        part = Path(path).with_suffix(".part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
            os.replace(part, path)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            # torch reports a failed write as a RuntimeError, raised while it handles the disk's own error.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise UserError(f"cannot write checkpoint {path}: {cause.strerror}") from error
        delete_others(Path(path), checkpoint.get(FOLDER))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint as a dictionary, on the CPU.

    Raises:
        UserError: it is missing, damaged, or none of ours.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise UserError(f"checkpoint {path} does not exist") from error
    except IsADirectoryError as error:
        raise UserError(f"checkpoint {path} is a folder: name the file, such as {path / 'best.ckpt'}") from error
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"checkpoint {path} is damaged or no checkpoint ({_first_line(error)}); delete it if it is a run's: "
            "the run then starts anew"
        ) from error
    if not isinstance(checkpoint, dict) or KEY not in checkpoint or "state_dict" not in checkpoint:
        raise UserError(f"checkpoint {path} was not written by outrageous")
    return checkpoint


def check_fits(checkpoint: dict[str, Any], path: Path, corpus: Corpus | ParallelCorpus) -> None:
    """Raises UserError if the checkpoint was trained with another vocabulary."""
    trained_with, given = checkpoint[KEY]["vocabulary_fingerprint"], corpus.vocabulary.fingerprint
    if trained_with != given:
        raise UserError(
            f"checkpoint {path} was trained with vocabulary {trained_with}, but the corpus has vocabulary {given} of "
            f"{len(corpus.vocabulary)} words: give the data settings that the checkpoint was trained with"
        )


def check_own(path: Path, corpus: Corpus | ParallelCorpus) -> None:
    """Raises UserError if the corpus, of the settings that the checkpoint was trained with, is of another text by now:
    what was trained on might stand in its test part."""
    checkpoint = read_checkpoint(path)
    check_fits(checkpoint, path, corpus)
    # Checkpoints before there were fingerprints in them are taken at their word.
    trained_on = checkpoint[KEY].get("data_fingerprint", corpus.fingerprint)
    if trained_on != corpus.fingerprint:
        raise UserError(
            f"checkpoint {path} was trained on corpus {trained_on}, but its settings now name corpus "
            f"{corpus.fingerprint}, whose test part may hold what it was trained on: restore the text as it was, or "
            "evaluate on another (data=…, of translation pairs=…)"
        )


def check_resumable(path: Path, config_hash: str, corpus: Corpus | ParallelCorpus) -> None:
    """Raises UserError if a run with these settings cannot go on from the checkpoint."""
    checkpoint = read_checkpoint(path)
    check_fits(checkpoint, path, corpus)
    if checkpoint[KEY]["config_hash"] != config_hash:
        raise UserError(f"checkpoint {path} comes from a run with other settings: move it away to start from scratch")


def load_weights(module: StampedModule, path: Path, corpus: Corpus | ParallelCorpus) -> None:
    """Loads the weights of a checkpoint, all of them and no others.

    Raises:
        UserError: the checkpoint is missing or damaged, or of another model or vocabulary.
    """
    check_fits(read_checkpoint(path), path, corpus)
    load_state(module, path)


def load_state(module: StampedModule, path: Path) -> None:
    """As `load_weights`, of a checkpoint whose vocabulary is known to fit."""
    checkpoint = put_back(read_checkpoint(path), path, module.processes)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        first_reason = str(error).split("\n\t")[1]
        raise UserError(f"checkpoint {path} is of another model: {first_reason}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
