"""The training loop of the language model: what happens to one batch, in training and in evaluation."""

from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig

from outrageous.config import ExpertOptimizer, RunConfig
from outrageous.data.batching import Batch
from outrageous.errors import UserError
from outrageous.models.language_model import LanguageModel
from outrageous.moe import MoEReport, balancing_loss, utilisation
from outrageous.optim.build import build_optimizer
from outrageous.optim.schedules import warmup_then_inverse_sqrt
from outrageous.training.checkpoints import StampedModule


class LanguageModule(StampedModule):
    """Trains by sampled softmax and balancing losses; evaluates by perplexity over the full softmax.

    Whatever is random in a step (gate noise, dropout, sampled classes) is drawn from (seed, step) alone, so a run that
    was interrupted goes on with the numbers it would have had.

    Gives the trainer `dev_perplexity` and `test_perplexity`, exp(total negative log-likelihood / predicted tokens),
    `</s>` included.
    """

    def __init__(self, config: RunConfig, vocabulary_size: int, origin: dict[str, Any]) -> None:
        """Initial weights depend on the seed alone. Raises ValueError if sizes do not fit together."""
        super().__init__(origin)
        self.optim, self.schedule, self.balance, self.seed = config.optim, config.schedule, config.balance, config.seed
        torch.manual_seed(config.seed)
        self.model = LanguageModel(config.model, vocabulary_size)
        # Of the latest step; the norm is that of all gradients that are formed, before clipping.
        self.grad_norm = self.learning_rate = float("nan")

    def on_fit_start(self) -> None:
        """Raises UserError where gradients must be formed: to be averaged over replicas, and on a GPU."""
        devices = f"{self.trainer.world_size} {self.device.type}"
        if self.optim.experts is ExpertOptimizer.gradient_free and devices != "1 cpu":
            raise UserError(
                f"optim.experts=gradient_free on {devices}: only one process on a CPU can do without gradients; set "
                "trainer.accelerator=cpu, or optim.experts=factored_adam"
            )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(_step_seed(self.seed, self.global_step, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        hidden, reports = self.model(batch.inputs, batch.mask)
        word_loss = self.model.softmax.sampled_loss(hidden, batch.targets[batch.mask])
        w_importance, w_load = self.balance.w_importance, self.balance.w_load
        balance_loss = sum((balancing_loss(report, w_importance, w_load) for report in reports), torch.zeros(()))
        threshold_loss = sum((report.threshold_loss for report in reports), torch.zeros(()))  # moves thresholds alone
        return {
            "loss": word_loss + balance_loss + threshold_loss,
            "word_loss": word_loss.detach(),
            "balance_loss": balance_loss.detach(),
            **_use_of_experts(reports),
        }

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Raises UserError on a gradient that is not finite: before it can reach the weights."""
        self.learning_rate = optimizer.param_groups[0]["lr"]
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise UserError(
                f"the gradient's norm is {norm.item()} at step {self.global_step + 1}, with learning rate "
                f"{self.learning_rate:.3g}; nothing was updated. Lower "
                f"optim.learning_rate={self.optim.learning_rate} or optim.max_grad_norm={self.optim.max_grad_norm}"
            )
        if self.optim.max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters(), self.optim.max_grad_norm, norm)
        self.grad_norm = norm.item()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self.model, self.optim)
        factor = warmup_then_inverse_sqrt(self.schedule.warmup_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_validation_epoch_start(self) -> None:
        self._nll, self._num_tokens = torch.zeros((), dtype=torch.float64), 0

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        hidden, reports = self.model(batch.inputs, batch.mask)
        nll = self.model.softmax.negative_log_likelihood(hidden, batch.targets[batch.mask])
        self._nll += nll.double().sum().cpu()
        self._num_tokens += batch.num_tokens
        return _use_of_experts(reports)

    def on_validation_epoch_end(self) -> None:
        self._log_perplexity("dev")

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        self._log_perplexity("test")

    def _log_perplexity(self, part: str) -> None:
        """Raises UserError unless the perplexity is finite: before a checkpoint is made of such weights."""
        expected = self.trainer.datamodule.num_predicted_tokens(part)  # type: ignore[attr-defined]
        assert self._num_tokens == expected, f"{part}: evaluated {self._num_tokens} tokens of {expected}"
        perplexity = (self._nll / self._num_tokens).exp()
        if not torch.isfinite(perplexity):
            raise UserError(
                f"the {part} perplexity is {perplexity.item()} after step {self.global_step}: "
                f"lower optim.learning_rate={self.optim.learning_rate}"
            )
        self.log(f"{part}_perplexity", perplexity, logger=False)  # Meter and log_result do that


def _use_of_experts(reports: list[MoEReport]) -> dict[str, Any]:
    """Of each MoE layer, for those who measure and draw: callbacks read it from a step's outputs."""
    return {
        "utilisation": [utilisation(report) for report in reports],
        "tokens_per_expert": [report.tokens_per_expert for report in reports],
    }


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)
