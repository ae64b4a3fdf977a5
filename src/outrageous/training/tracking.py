"""Weights & Biases: how a run is named and grouped, and pictures of how evenly the experts are used."""

import hashlib
import io
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.loggers import WandbLogger

from outrageous.config import AnyRunConfig
from outrageous.data.batching import Batch
from outrageous.data.pair_dataset import PairBatch
from outrageous.errors import UserError
from outrageous.results.expert_tables import COLUMNS, ExpertUse, to_rows
from outrageous.results.records import Record
from outrageous.training.run_folder import plain_config

MODES = ("online", "offline", "disabled")


def wandb_mode() -> str:
    """WANDB_MODE if set, else online if WANDB_API_KEY is set, else offline: never asks, nor hangs without a network.

    Raises UserError if WANDB_MODE is none of MODES.
    """
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    if mode not in MODES:
        raise UserError(f"WANDB_MODE={mode}: must be one of {', '.join(MODES)}, or not set")
    return mode


def make_logger(config: AnyRunConfig, folder: Path) -> WandbLogger:
    """A logger that goes on with the same W&B run when the training goes on.

    Raises UserError as `wandb_mode`.
    """
    mode = wandb_mode()
    os.environ["WANDB_MODE"] = mode  # W&B reads it too, and stumbles over one that is set but empty
    os.environ.setdefault("WANDB_SILENT", "true")  # our own progress bar and closing lines say what is needed
    wandb.setup()  # reads both; W&B's warnings about Lightning's logger come before it would by itself
    return WandbLogger(
        name=f"{config.name}-{config.scale.name}-seed_{config.seed}",
        save_dir=folder,
        id=_run_id(folder),
        mode=mode,
        resume="allow",
        project=config.logger.project,
        group=config.logger.group,
        tags=[*config.logger.tags, config.name, config.scale.name],
        config=plain_config(config),
    )


def _run_id(folder: Path) -> str:
    """The same whenever this folder's run goes on, another for the same settings on another machine or in another
    checkout, whose curves would else be drawn into one."""
    place = hashlib.sha256(f"{uuid.getnode()} {folder.resolve()}".encode()).hexdigest()[:8]
    return "-".join([*folder.parts[-4:], place])


def how_to_look(folder: Path) -> str | None:
    """The closing line of an offline run."""
    if wandb_mode() != "offline":
        return None
    return f"W&B ran offline. Look: wandb leet {folder / 'wandb'}   Upload: wandb sync {folder / 'wandb'}/offline-run-*"


def log_result(trainer: pl.Trainer, record: Record) -> None:
    """The test perplexity and the run's row of its table; closes the W&B run."""
    if isinstance(trainer.logger, WandbLogger):
        row = {
            "row": record.row or record.experiment,
            "scale": record.scale,
            "seed": record.seed,
            "ops_per_timestep": record.ops_per_timestep,
            "params": record.parameters,
            "words_per_second": record.words_per_second,
            **record.metrics,
        }
        trainer.logger.log_metrics({"test/perplexity": record.metrics["test_perplexity"]}, trainer.global_step)
        trainer.logger.log_table("result", columns=list(row), data=[list(row.values())])
        trainer.logger.experiment.finish()


def log_expert_use(logger: object, uses: list[ExpertUse]) -> None:
    """A table for each MoE, of the contexts that its experts are chosen for most."""
    if isinstance(logger, WandbLogger):
        for use in uses:
            rows = [list(row) for row in to_rows(use)]
            logger.log_table(f"experts/{use.moe}", columns=list(COLUMNS), data=rows)


class ExpertLoadPlots(pl.Callback):
    """At each validation a histogram of tokens per expert since the last one; at the end a heatmap, experts over time.

    Its state goes into checkpoints: the heatmap of a resumed run covers the whole run.
    """

    def __init__(self) -> None:
        self._since_validation: list[torch.Tensor] = []  # one [num MoE layers, N] for each step
        self._history: list[torch.Tensor] = []  # one [num MoE layers, N] for each validation

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch | PairBatch, batch_idx: int
    ) -> None:
        if outputs["tokens_per_expert"]:
            self._since_validation.append(torch.stack(outputs["tokens_per_expert"]))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._since_validation:
            return
        tokens = torch.stack(self._since_validation).sum(dim=0).cpu()
        self._since_validation.clear()
        self._history.append(tokens)
        for layer, counts in enumerate(tokens):
            histogram = wandb.Histogram(np_histogram=np.histogram(counts.numpy(), bins=min(64, len(counts))))
            _log(trainer, {f"experts/tokens_per_expert_{layer}": histogram})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._history:
            return
        history = torch.stack(self._history).double()  # [validations, layers, N]
        for layer in range(history.shape[1]):
            shares = history[:, layer] / history[:, layer].mean(dim=1, keepdim=True)
            _log(trainer, {f"experts/load_heatmap_{layer}": wandb.Image(_heatmap(shares.numpy()))})

    def state_dict(self) -> dict[str, Any]:
        return {"history": self._history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._history = state_dict["history"]


def _log(trainer: pl.Trainer, values: dict[str, Any]) -> None:
    if isinstance(trainer.logger, WandbLogger):
        trainer.logger.experiment.log(values | {"trainer/global_step": trainer.global_step})


def _heatmap(shares: np.ndarray) -> Any:
    """shares [times, N], tokens over the mean of all experts -> a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from PIL import Image

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    mesh = axes.imshow(shares, aspect="auto", cmap="viridis", vmin=0, vmax=max(2.0, shares.max()), origin="lower")
    axes.set(xlabel="expert", ylabel="validation")
    figure.colorbar(mesh, label="tokens / mean over experts")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    plt.close(figure)
    buffer.seek(0)
    return Image.open(buffer)
