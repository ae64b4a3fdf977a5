"""A run: everything that one training needs."""

from dataclasses import dataclass
from typing import Any

from outrageous.config.data import CorpusConfig, ParallelCorpusConfig
from outrageous.config.models import LanguageModelConfig, TranslationModelConfig
from outrageous.config.training import (
    BalanceConfig,
    FlatScheduleConfig,
    LoggerConfig,
    OptimizerConfig,
    PathsConfig,
    ScheduleConfig,
    TrainerConfig,
)


def settings_identity(settings: dict[str, Any]) -> dict[str, Any]:
    """A run's plain settings without those that came later, where they are as if they had not: the hashes of runs
    before them stay what they were. Those that came together are left out together."""
    added = (
        {("optim", "experts"): "adam", ("optim", "experts_learning_rate"): None}
        | {("model", "project_lstm"): False, ("moe", "recompute"): False},
        {("optim", "tables"): "adam"},
    )
    optim, model = dict(settings["optim"]), dict(settings["model"])
    sections = {"optim": optim, "model": model, "moe": dict(model["moe"] or {})}
    for together in added:
        there = {key: default for key, default in together.items() if key[1] in sections[key[0]]}
        if all(sections[section][name] == default for (section, name), default in there.items()):
            for section, name in there:
                del sections[section][name]
    model["moe"] = model["moe"] and sections["moe"]
    return settings | {"optim": optim, "model": model}


@dataclass
class ScaleConfig:
    """Sizes that the experiments are written in: the same experiment, smaller or larger.

    Attributes:
        name: smoke, pocket or paper.
        d_model: width of embedding, LSTMs and softmax.
        d_hidden: hidden width of one expert. At twice d_model, four experts cost as many operations as two LSTMs.
        d_hidden_of_256: the same where one gate chooses among 256, which at small widths costs as much as an expert:
            narrower experts make up for it.
    """

    name: str
    d_model: int
    d_hidden: int
    d_hidden_of_256: int


@dataclass
class TranslationScaleConfig:
    """As `ScaleConfig`.

    Attributes:
        name: smoke, pocket or paper.
        d_model: width of everything between the layers.
        d_hidden: hidden width of one expert.
    """

    name: str
    d_model: int
    d_hidden: int


@dataclass
class RunConfig:
    """One run of a language model: one row of a table, with one seed.

    Attributes:
        name: the experiment, as in `experiment=lm/moe_32`.
        seed: of initial weights, batches, gate noise, dropout and sampled classes.
    """

    name: str
    seed: int
    scale: ScaleConfig
    data: CorpusConfig
    model: LanguageModelConfig
    optim: OptimizerConfig
    schedule: ScheduleConfig
    balance: BalanceConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    paths: PathsConfig


@dataclass
class TranslationRunConfig:
    """One run of a translation model: one row of a table, or one line of figure 4, with one seed.

    Attributes:
        name: the experiment, as in `experiment=mt/moe_32`.
        seed: as in `RunConfig`.
    """

    name: str
    seed: int
    scale: TranslationScaleConfig
    data: ParallelCorpusConfig
    model: TranslationModelConfig
    optim: OptimizerConfig
    schedule: FlatScheduleConfig
    balance: BalanceConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    paths: PathsConfig


AnyRunConfig = RunConfig | TranslationRunConfig
