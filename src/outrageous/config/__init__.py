"""Every setting of a run, with its type, meaning and unit: the schema that the files under conf/ are checked against.

Nothing is imported from the rest of the package, so that `--help` answers at once.
"""

from outrageous.config.data import CorpusConfig, HubPairsConfig, ParallelCorpusConfig, Source, corpus_identity
from outrageous.config.models import (
    AttentionKind,
    GateConfig,
    GateKind,
    LanguageModelConfig,
    Layer,
    MoEConfig,
    TranslationModelConfig,
)
from outrageous.config.runs import (
    AnyRunConfig,
    RunConfig,
    ScaleConfig,
    TranslationRunConfig,
    TranslationScaleConfig,
    settings_identity,
)
from outrageous.config.training import (
    BalanceConfig,
    ExpertOptimizer,
    FlatScheduleConfig,
    LoggerConfig,
    OptimizerConfig,
    PathsConfig,
    ScheduleConfig,
    Strategy,
    TableOptimizer,
    TrainerConfig,
)

__all__ = [
    "AnyRunConfig",
    "AttentionKind",
    "BalanceConfig",
    "CorpusConfig",
    "ExpertOptimizer",
    "FlatScheduleConfig",
    "GateConfig",
    "GateKind",
    "HubPairsConfig",
    "LanguageModelConfig",
    "Layer",
    "LoggerConfig",
    "MoEConfig",
    "OptimizerConfig",
    "ParallelCorpusConfig",
    "PathsConfig",
    "RunConfig",
    "ScaleConfig",
    "ScheduleConfig",
    "Source",
    "Strategy",
    "TableOptimizer",
    "TrainerConfig",
    "TranslationModelConfig",
    "TranslationRunConfig",
    "TranslationScaleConfig",
    "corpus_identity",
    "settings_identity",
]
