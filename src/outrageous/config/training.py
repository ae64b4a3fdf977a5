"""Settings of training: optimizer, schedule, losses, budget, logging and folders."""

from dataclasses import dataclass
from enum import Enum
from typing import Any


class ExpertOptimizer(Enum):
    """How the weights of experts are updated: by Adam as all others, or with its state factored (appendix D), or so
    without even forming their gradient."""

    adam = "adam"
    factored_adam = "factored_adam"
    gradient_free = "gradient_free"


class TableOptimizer(Enum):
    """How the tables of a language model, embedding and softmax, are updated: by Adam as all others, by Adam on the
    rows alone that a batch uses, or with its state factored."""

    adam = "adam"
    sparse_adam = "sparse_adam"
    factored_adam = "factored_adam"


@dataclass
class OptimizerConfig:
    """Adam.

    Attributes:
        learning_rate: at the end of the warm-up, its highest.
        beta1, beta2, epsilon: Adam's. Experts not updated by Adam have no beta1.
        max_grad_norm: gradients are scaled down to this norm, over all parameters together; null for no limit.
        experts: the optimizer of experts' weights.
        experts_learning_rate: theirs, where it is not that of the rest: a stack of several layers bears less.
        tables: the optimizer of embedding and softmax, a row a word; of language models only.
    """

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float | None
    experts: ExpertOptimizer = ExpertOptimizer.adam
    experts_learning_rate: float | None = None
    tables: TableOptimizer = TableOptimizer.adam


@dataclass
class ScheduleConfig:
    """Learning rate linear up to step warmup_steps, then proportional to 1/√step (appendix C)."""

    warmup_steps: int


@dataclass
class FlatScheduleConfig:
    """Learning rate linear up to step warmup_steps, flat up to flat_until, then as 1/√step (appendix E)."""

    warmup_steps: int
    flat_until: int


@dataclass
class BalanceConfig:
    """Weights of the balancing losses, Eq. 7 and 11."""

    w_importance: float
    w_load: float


class Strategy(Enum):
    """Who trains: one process; several, each with all experts; several, each with its own experts."""

    single = "single"
    ddp = "ddp"
    expert_parallel = "expert_parallel"


@dataclass
class TrainerConfig:
    """
    Attributes:
        accelerator, precision: as Lightning's Trainer takes them.
        num_threads: CPU threads of each process; null for PyTorch's default, or its share of them.
        max_epochs: passes over the training part.
        max_steps: stop earlier, after this many steps; -1 for no limit.
        words_per_batch: most predicted words of a training batch, made of whole sentences.
        eval_words_per_batch: the same for dev and test; changes speed and memory only.
        validate_every: steps between two looks at the dev perplexity; checkpoints are written then. Below 1: the share
            of a pass.
        log_every: steps between two rows of the log.
        strategy: with ddp and expert_parallel batches are divided, and what is drawn at random depends on the word: the
            numbers are the same for any number of processes, but others than with single.
        devices: processes on each node, each with a device of its own.
        num_nodes: machines.
        timeout: seconds that a process waits for the others before it gives up.
        sharded_checkpoints: with expert_parallel, write experts to a folder beside each checkpoint, every process its
            own; otherwise the first process writes all.
        profile: trace some steps, for a look at what the time goes to.
    """

    accelerator: str
    precision: str
    num_threads: int | None
    max_epochs: int
    max_steps: int
    words_per_batch: int
    eval_words_per_batch: int
    validate_every: Any  # int | float, which OmegaConf cannot merge
    log_every: int
    strategy: Strategy = Strategy.single
    devices: int = 1
    num_nodes: int = 1
    timeout: int = 600
    sharded_checkpoints: bool = False
    profile: bool = False


@dataclass
class LoggerConfig:
    """Weights & Biases. group: shared by the runs of one sweep."""

    project: str
    group: str | None
    tags: list[str]


@dataclass
class PathsConfig:
    """
    Attributes:
        runs: finished and unfinished runs, one folder each.
        corpora: prepared corpora.
    """

    runs: str
    corpora: str
