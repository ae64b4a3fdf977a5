"""The training loop that language model and translation share: what happens to one batch, in training and in
evaluation."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from outrageous.config import AnyRunConfig, ExpertOptimizer
from outrageous.data.batching import Batch
from outrageous.data.pair_dataset import PairBatch
from outrageous.errors import UserError
from outrageous.models.gnmt import TranslationModel
from outrageous.models.language_model import LanguageModel
from outrageous.moe import MoEReport, balancing_loss, utilisation
from outrageous.moe.part import BatchPart, at_hand, part_at_hand
from outrageous.optim.build import build_optimizer
from outrageous.optim.clipping import gradients_of, scale_to_norm
from outrageous.optim.schedules import warmup_then_inverse_sqrt
from outrageous.parallel.numbered import Draws, NumberedPart
from outrageous.parallel.spread import shards_of, spread, sum_gradients
from outrageous.parallel.strategy import OneBatchStrategy
from outrageous.training.checkpoints import StampedModule
from outrageous.training.gradient_norm import NormWatch

AnyBatch = Batch | PairBatch


class SupervisedModule(StampedModule):
    """Trains by the loss of the next word and balancing losses; evaluates by perplexity over the full softmax.

    Whatever is random in a step (gate noise, dropout, sampled classes) is drawn from (seed, step) alone, so a run that
    was interrupted goes on with the numbers it would have had. Where batches are divided over processes, they are drawn
    from (seed, step, word) too, and are the same for any number of processes.

    Gives the trainer `dev_perplexity` and `test_perplexity`, exp(total negative log-likelihood / predicted tokens),
    `</s>` included.
    """

    def __init__(self, config: AnyRunConfig, model: LanguageModel | TranslationModel, origin: dict[str, Any]) -> None:
        super().__init__(origin)
        self.optim, self.schedule, self.balance, self.seed = config.optim, config.schedule, config.balance, config.seed
        self.model = model
        self.batches_are_divided = False
        # Of the latest step; the norm is that of all gradients that are formed, before clipping, on a GPU that of the
        # step before.
        self.grad_norm = self.learning_rate = float("nan")
        self._norms = NormWatch()
        self._word_loss = torch.zeros(())

    @abstractmethod
    def hidden(self, batch: AnyBatch) -> tuple[Tensor, list[MoEReport]]:
        """The softmax's input [W, D] at the words that count, and a report for each MoE."""

    @abstractmethod
    def sum_of_word_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Of training, a scalar; hidden [W, D], targets [W] int64."""

    @abstractmethod
    def tokens_of_moes(self, batch: AnyBatch) -> list[int]:
        """How many tokens each MoE is given here, in the order of the reports."""

    def on_fit_start(self) -> None:
        """Raises UserError where gradients must be formed: to be summed over processes, and on a GPU."""
        devices = f"{self.trainer.world_size} {self.device.type}"
        if self.optim.experts is ExpertOptimizer.gradient_free and devices != "1 cpu":
            raise UserError(
                f"optim.experts=gradient_free on {devices}: only one process on a CPU can do without gradients; set "
                "trainer.accelerator=cpu, or optim.experts=factored_adam"
            )

    def configure_model(self) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, OneBatchStrategy):
            self.processes, self.batches_are_divided = strategy.processes, True
            spread(self.model, self.processes, strategy.shard_experts)

    def on_train_batch_start(self, batch: AnyBatch, batch_idx: int) -> None:
        # The same on all processes: what is drawn for a whole batch, as sampled classes are, is the same for all parts.
        torch.manual_seed(_step_seed(self.seed, self.global_step))
        self.zero_grad()  # Lightning keeps the last step's gradients until the loss is known, with all that led to it

    def training_step(self, batch: AnyBatch, batch_idx: int) -> dict[str, Any]:
        """This process's share of the loss; and of the whole batch, what is logged. No process waits for another but
        for the rows of its experts."""
        totals = self.processes.start_totals(batch.num_tokens, *self.tokens_of_moes(batch))
        with at_hand(self._part(batch)):
            hidden, reports = self.hidden(batch)
        sum_of_losses = self.sum_of_word_losses(hidden, batch.predicted)
        num_words, *tokens_of_moes = totals()
        self._word_loss = sum_of_losses.detach() / num_words
        w_importance, w_load = self.balance.w_importance, self.balance.w_load
        balance_loss = sum((balancing_loss(report, w_importance, w_load) for report in reports), torch.zeros(()))
        threshold_loss = sum((report.threshold_loss for report in reports), torch.zeros(()))  # moves thresholds alone
        return {
            # Reports are of the whole batch, on every process: its share of what they cost.
            "loss": sum_of_losses / num_words + (balance_loss + threshold_loss) / self.processes.size,
            "word_loss": self._word_loss,  # of the words here, until gradients are summed
            "balance_loss": balance_loss.detach(),
            "num_words": round(num_words),
            **self._use_of_experts(reports, tokens_of_moes),
        }

    def _part(self, batch: AnyBatch) -> BatchPart:
        if not self.batches_are_divided:
            return part_at_hand()
        num_sentences = len(batch.mask)
        sentences = torch.arange(num_sentences, device=self.device) * self.processes.size + self.processes.rank
        return NumberedPart(self.processes, Draws(_step_seed(self.seed, self.global_step)), sentences)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Raises UserError on a gradient that is not finite, as `NormWatch` says."""
        self.learning_rate = optimizer.param_groups[0]["lr"]
        gradients, norm = self.gradients_and_norm()
        advice = (
            f"Lower optim.learning_rate={self.optim.learning_rate} or optim.max_grad_norm={self.optim.max_grad_norm}"
        )
        self.grad_norm = self._norms.look(norm, self.global_step + 1, self.learning_rate, advice)
        if self.optim.max_grad_norm is not None:
            scale_to_norm(gradients, self.optim.max_grad_norm, norm)

    def gradients_and_norm(self) -> tuple[list[Tensor], Tensor]:
        """Of the whole batch: gradients here, and the norm of all; to be called once after a backward pass. The step's
        `word_loss` is from then on that of the whole batch."""
        squares_of_experts = sum_gradients(self, self.processes, [self._word_loss])
        shards = shards_of(self)
        everywhere = gradients_of(weight for name, weight in self.named_parameters() if name not in shards)
        here_only = gradients_of(weight for name, weight in self.named_parameters() if name in shards)
        norm = torch.nn.utils.get_total_norm(everywhere)
        if here_only:
            norm = (norm**2 + squares_of_experts).sqrt()
        return everywhere + here_only, norm

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self.model, self.optim)
        factor = warmup_then_inverse_sqrt(self.schedule.warmup_steps, getattr(self.schedule, "flat_until", None))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_validation_epoch_start(self) -> None:
        self._nll, self._num_tokens = torch.zeros((), dtype=torch.float64), 0

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> dict[str, Any]:
        hidden, reports = self.hidden(batch)
        nll = self.model.softmax.negative_log_likelihood(hidden, batch.predicted)
        self._nll += nll.double().sum().cpu()
        self._num_tokens += batch.num_tokens
        tokens_of_moes = self.processes.totals(*self.tokens_of_moes(batch)) if reports else []
        return self._use_of_experts(reports, tokens_of_moes)

    def on_validation_epoch_end(self) -> None:
        self._log_perplexity("dev")

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        self._log_perplexity("test")

    def _log_perplexity(self, part: str) -> None:
        """Raises UserError unless the perplexity is finite: before a checkpoint is made of such weights."""
        expected = self.trainer.datamodule.num_predicted_tokens(part)  # type: ignore[attr-defined]
        nll, num_tokens = self.processes.totals(self._nll.item(), self._num_tokens)
        assert num_tokens == expected, f"{part}: evaluated {num_tokens} tokens of {expected}"
        perplexity = torch.tensor(nll / num_tokens, dtype=torch.float64).exp()
        if not torch.isfinite(perplexity):
            raise UserError(
                f"the {part} perplexity is {perplexity.item()} after step {self.global_step}: "
                f"lower optim.learning_rate={self.optim.learning_rate}"
            )
        self.log(f"{part}_perplexity", perplexity, logger=False)  # Meter and log_result do that

    def _use_of_experts(self, reports: list[MoEReport], tokens_of_moes: list[float]) -> dict[str, Any]:
        """Of each MoE, for those who measure and draw: callbacks read it from a step's outputs."""
        return {
            "utilisation": [utilisation(report) for report in reports],
            "tokens_per_expert": [report.tokens_per_expert for report in reports],
            "tokens_of_moes": tokens_of_moes[: len(reports)],  # none of a model without
        }


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step, 0)).generate_state(1, np.uint64)[0] >> 1)
