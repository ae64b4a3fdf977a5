"""A trace of some training steps, for Perfetto or TensorBoard."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.profiler import ProfilerActivity, profile, schedule

# Steps: those before have what happens but once, and the profiler's own warm-up is one.
FIRST, NUM_TRACED = 6, 3


class Trace(pl.Callback):
    """Of the first process, a few steps after training starts; a training that has fewer leaves none."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._profile: profile | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            on_gpu = trainer.strategy.root_device.type == "cuda"
            self._profile = profile(
                activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])],
                schedule=schedule(wait=FIRST - 1, warmup=1, active=NUM_TRACED, repeat=1),
                on_trace_ready=self._write,
            )
            self._profile.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._profile is not None:
            self._profile.step()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._profile is not None:
            self._profile.stop()
            self._profile = None

    def _write(self, finished: profile) -> None:
        if finished.step_num >= FIRST + NUM_TRACED:  # otherwise training ended first
            unfinished = self.file.with_name(f".{self.file.name}")
            finished.export_chrome_trace(str(unfinished))
            unfinished.replace(self.file)
