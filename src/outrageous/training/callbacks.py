"""What is measured, logged and shown while a model trains."""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from tqdm import tqdm

from outrageous.data.batching import Batch
from outrageous.data.pair_dataset import PairBatch
from outrageous.results.records import CurvePoint

RECENT_BATCHES = 20  # over how many training batches the utilisation figures are averaged


class Meter(pl.Callback):
    """Counts words and seconds of training, without validation, and logs every `log_every` steps.

    Its state goes into checkpoints: figures of a resumed run cover the whole run.

    Attributes:
        words: predicted words trained on so far.
        curve: one point for each validation.
    """

    def __init__(self, log_every: int, flops_per_word: int) -> None:
        self.log_every, self.flops_per_word = log_every, flops_per_word
        self.words = 0
        self.curve: list[CurvePoint] = []
        self._recent: deque[dict[str, Tensor]] = deque(maxlen=RECENT_BATCHES)  # on their device until they are wanted
        self._tested: list[dict[str, float]] = []
        self._seconds_before = 0.0  # of the stretches between validations so far
        self._since: float | None = None  # when the present one began
        self._wall_before, self._constructed = 0.0, time.monotonic()

    @property
    def wall_seconds(self) -> float:
        """From the run's first start, without the time between an interruption and its resumption."""
        return self._wall_before + time.monotonic() - self._constructed

    @property
    def seconds(self) -> float:
        """Spent on training those words."""
        return self._seconds_before + (0.0 if self._since is None else time.perf_counter() - self._since)

    @property
    def words_per_second(self) -> float:
        return self.words / self.seconds if self.seconds else 0.0

    def utilisation(self) -> dict[str, float]:
        """Mean over recent training batches of cv_importance, cv_load and max_over_mean_load; empty without an MoE."""
        return _mean(_numbers(self._recent))

    def test_utilisation(self) -> dict[str, float]:
        """Mean over the test batches of test_cv_load, test_max_over_mean_load and test_experts_per_token. Training has
        others: noise, or strict balance, is its own. Empty without an MoE, or before the test."""
        return _mean(self._tested)

    def on_train_batch_start(self, *_: Any) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch | PairBatch, batch_idx: int
    ) -> None:
        self.words += outputs["num_words"]
        if outputs["utilisation"]:
            self._recent.append(_mean_over_layers(outputs["utilisation"]))
        if trainer.global_step % self.log_every == 0:
            self._log(trainer, pl_module, outputs)

    def on_validation_start(self, *_: Any) -> None:
        self._seconds_before, self._since = self.seconds, None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        dev_perplexity = trainer.callback_metrics["dev_perplexity"].item()
        self.curve.append(CurvePoint(trainer.global_step, self.words, dev_perplexity))
        if trainer.logger:
            trainer.logger.log_metrics({"dev/perplexity": dev_perplexity, "words": self.words}, trainer.global_step)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch | PairBatch, *_: Any
    ) -> None:
        """Gathers how the test part uses its experts."""
        if outputs["utilisation"]:
            (figures,) = _numbers([_mean_over_layers(outputs["utilisation"])])
            of_moes = zip(outputs["tokens_per_expert"], outputs["tokens_of_moes"], strict=True)
            experts_per_token = [counts.sum().item() / num_tokens for counts, num_tokens in of_moes]
            self._tested.append(
                {
                    "test_cv_load": figures["cv_load"],
                    "test_max_over_mean_load": figures["max_over_mean_load"],
                    "test_experts_per_token": sum(experts_per_token) / len(experts_per_token),
                }
            )

    def state_dict(self) -> dict[str, Any]:
        return {
            "words": self.words,
            "seconds": self.seconds,
            "wall_seconds": self.wall_seconds,
            "curve": [asdict(point) for point in self.curve],
            "recent": _numbers(self._recent),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.words = state_dict["words"]
        self._seconds_before, self._wall_before = state_dict["seconds"], state_dict["wall_seconds"]
        self.curve = [CurvePoint(**point) for point in state_dict["curve"]]
        self._recent.extend(
            {name: torch.tensor(number) for name, number in row.items()} for row in state_dict["recent"]
        )

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any) -> None:
        if not trainer.logger:
            return
        metrics = {
            "train/word_loss": outputs["word_loss"].item(),
            "train/balance_loss": outputs["balance_loss"].item(),
            "train/grad_norm": pl_module.grad_norm,
            "train/learning_rate": pl_module.learning_rate,
            "speed/words_per_second": self.words_per_second,
            "speed/tflops": self.words_per_second * self.flops_per_word / 1e12,
            "words": self.words,
        }
        metrics |= {f"experts/{name}": value for name, value in self.utilisation().items()}
        trainer.logger.log_metrics(metrics, trainer.global_step)


def _mean(rows: Collection[dict[str, float]]) -> dict[str, float]:
    """Of each figure over all rows; empty if there are none."""
    names = next(iter(rows), {})
    return {name: sum(row[name] for row in rows) / len(rows) for name in names}


def _numbers(rows: Collection[dict[str, Tensor]]) -> list[dict[str, float]]:
    return [{name: scalar.item() for name, scalar in row.items()} for row in rows]


def _mean_over_layers(utilisations: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in utilisations]).mean() for name in utilisations[0]}


class ValidationAtTheEnd(pl.Callback):
    """Has Lightning validate after the last step too, be it a multiple of `validate_every` or not: the last weights may
    be the best, and a run shorter than that interval needs a checkpoint."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._num_steps = trainer.estimated_stepping_batches
        self._stop_at_the_end(trainer)  # a run that goes on from its end has nothing left to do

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._stop_at_the_end(trainer)

    def _stop_at_the_end(self, trainer: pl.Trainer) -> None:
        if trainer.global_step >= self._num_steps:
            trainer.should_stop = True  # which Lightning answers with a validation


class RunProgress(pl.Callback):
    """One bar for the whole run, with words/s, dev perplexity and time left; and the same as a small JSON file. Of
    several processes the first has them."""

    SECONDS_BETWEEN_WRITES = 1.0

    def __init__(self, meter: Meter, file: Path, title: str) -> None:
        self.meter, self.file, self.title = meter, file, title
        self._bar: tqdm[Any] | None = None
        self._written = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        total = int(trainer.estimated_stepping_batches)
        self._bar = tqdm(
            total=total,
            initial=trainer.global_step,
            desc=self.title,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 30,  # a log file wants few lines
        )

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._bar is None:
            return
        self._bar.update(trainer.global_step - self._bar.n)
        if time.monotonic() - self._written > self.SECONDS_BETWEEN_WRITES:
            self._show(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._show(trainer)

    def on_train_end(self, *_: Any) -> None:
        self._close()

    def on_exception(self, *_: Any) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, trainer: pl.Trainer) -> None:
        assert self._bar is not None
        self._written = time.monotonic()
        curve = self.meter.curve
        status = {
            "step": trainer.global_step,
            "num_steps": self._bar.total,
            "words_per_second": self.meter.words_per_second,
            "dev_perplexity": curve[-1].dev_perplexity if curve else None,
        }
        self._bar.set_postfix_str(
            f"{status['words_per_second']:,.0f} words/s"
            + (f", dev perplexity {status['dev_perplexity']:.2f}" if curve else ""),
            refresh=False,
        )
        temporary = self.file.with_suffix(".part")
        temporary.write_text(json.dumps(status))
        os.replace(temporary, self.file)
