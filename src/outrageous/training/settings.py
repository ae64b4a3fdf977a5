"""Settings of the right type that still make no sense."""

import math

import torch

from outrageous.config import (
    AnyRunConfig,
    ExpertOptimizer,
    FlatScheduleConfig,
    MoEConfig,
    OptimizerConfig,
    RunConfig,
    Strategy,
    TableOptimizer,
    TrainerConfig,
)
from outrageous.errors import UserError
from outrageous.parallel.shards import Shard
from outrageous.results.records import SCALES

PRECISIONS = ("32-true", "bf16-mixed")  # as Lightning names them; the others need scaled losses or another model


def check_settings(config: AnyRunConfig) -> None:
    """Raises UserError, naming it, at a number with which nothing can be trained. Sizes of the model are checked where
    it is built, and those of the corpus where it is prepared."""
    if config.scale.name not in SCALES:
        raise UserError(f"scale.name={config.scale.name}: must be one of {', '.join(SCALES)}, which records know")
    _require(config.seed >= 0, "seed", config.seed, "at least 0")
    _check_trainer(config.trainer)
    _require(config.schedule.warmup_steps >= 1, "schedule.warmup_steps", config.schedule.warmup_steps, "at least 1")
    if isinstance(schedule := config.schedule, FlatScheduleConfig):
        rule = f"at least schedule.warmup_steps={schedule.warmup_steps}"
        _require(schedule.flat_until >= schedule.warmup_steps, "schedule.flat_until", schedule.flat_until, rule)
    _check_optimizer(config.optim)
    if config.optim.experts is not ExpertOptimizer.adam and config.model.moe is None:
        raise UserError(f"optim.experts={config.optim.experts.value}: {config.name} has no experts; set optim=adam")
    if config.optim.tables is not TableOptimizer.adam and not isinstance(config, RunConfig):
        raise UserError(f"optim.tables={config.optim.tables.value}: of language models only; set optim.tables=adam")
    if config.optim.tables is TableOptimizer.sparse_adam and config.trainer.strategy is not Strategy.single:
        raise UserError(
            f"optim.tables=sparse_adam with trainer.strategy={config.trainer.strategy.value}: processes do not tell "
            "each other which rows they use; set optim.tables=adam or factored_adam"
        )
    _check_units(config.model.moe, config.trainer)
    for name in ("w_importance", "w_load"):
        value = getattr(config.balance, name)
        _require(0 <= value < math.inf, f"balance.{name}", value, "at least 0")


def _check_units(moe: MoEConfig | None, trainer: TrainerConfig) -> None:
    """Before any of many processes starts."""
    num_processes = trainer.devices * trainer.num_nodes
    if moe is None or trainer.strategy is not Strategy.expert_parallel:
        return
    try:
        Shard.of(moe.num_units, 0, num_processes)
    except ValueError as error:
        raise UserError(f"trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes}: {error}") from error


def check_device(trainer: TrainerConfig) -> None:
    """Raises UserError if a GPU is asked for and there is none."""
    if trainer.accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise UserError(
            f"trainer.accelerator={trainer.accelerator}: there is no CUDA device here; set trainer.accelerator=cpu, or "
            "leave trainer=gpu out"
        )


def _check_trainer(trainer: TrainerConfig) -> None:
    check_device(trainer)
    if trainer.precision not in PRECISIONS:
        raise UserError(f"trainer.precision={trainer.precision}: must be one of {', '.join(PRECISIONS)}")
    for name in ("max_epochs", "words_per_batch", "eval_words_per_batch", "log_every"):
        _require(getattr(trainer, name) >= 1, f"trainer.{name}", getattr(trainer, name), "at least 1")
    every = trainer.validate_every
    valid = every >= 1 if isinstance(every, int) else isinstance(every, float) and 0 < every < 1
    _require(valid, "trainer.validate_every", every, "at least 1 and whole, or a share of a pass below 1")
    _require(
        trainer.max_steps == -1 or trainer.max_steps >= 1, "trainer.max_steps", trainer.max_steps, "at least 1, or -1"
    )
    for name in ("devices", "num_nodes", "timeout"):
        _require(getattr(trainer, name) >= 1, f"trainer.{name}", getattr(trainer, name), "at least 1")
    if trainer.strategy is Strategy.single and trainer.devices * trainer.num_nodes > 1:
        raise UserError(
            f"trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes}: trainer.strategy=single is one "
            "process; set trainer=expert_parallel, or trainer=ddp"
        )
    if trainer.sharded_checkpoints and trainer.strategy is not Strategy.expert_parallel:
        raise UserError("trainer.sharded_checkpoints=true: only trainer=expert_parallel has shards to write")
    if trainer.num_threads is not None:
        _require(trainer.num_threads >= 1, "trainer.num_threads", trainer.num_threads, "at least 1")


def _check_optimizer(optim: OptimizerConfig) -> None:
    _require(0 < optim.learning_rate < math.inf, "optim.learning_rate", optim.learning_rate, "above 0 and finite")
    if (rate := optim.experts_learning_rate) is not None:
        _require(0 < rate < math.inf, "optim.experts_learning_rate", rate, "above 0 and finite, or null")
    for name in ("beta1", "beta2"):
        _require(0 <= getattr(optim, name) < 1, f"optim.{name}", getattr(optim, name), "at least 0 and below 1")
    _require(optim.epsilon > 0, "optim.epsilon", optim.epsilon, "above 0")
    if optim.max_grad_norm is not None:
        _require(optim.max_grad_norm > 0, "optim.max_grad_norm", optim.max_grad_norm, "above 0, or null")
        if optim.experts is ExpertOptimizer.gradient_free:
            raise UserError(
                f"optim.max_grad_norm={optim.max_grad_norm}: optim.experts=gradient_free forms no gradient to be "
                "scaled; set optim.max_grad_norm=null, or optim.experts=factored_adam"
            )


def _require(holds: bool, name: str, value: float, rule: str) -> None:
    if not holds:
        raise UserError(f"{name}={value}: must be {rule}")
