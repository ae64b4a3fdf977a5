"""What differs between language models and translation: corpus, module, loaders, and what is left after the test."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from outrageous.config import AnyRunConfig, MoEConfig, RunConfig
from outrageous.data.corpus import Corpus, prepare_corpus
from outrageous.data.parallel_corpus import ParallelCorpus, prepare_parallel
from outrageous.errors import UserError
from outrageous.moe.kept import keeping
from outrageous.parallel.processes import Processes
from outrageous.parallel.shards import Shard
from outrageous.results.expert_tables import to_metrics
from outrageous.training.batchwise_test import batchwise_perplexity
from outrageous.training.data_module import SentenceDataModule
from outrageous.training.expert_use import expert_use, leave_expert_use
from outrageous.training.language_module import LanguageModule
from outrageous.training.run_folder import RunFolder
from outrageous.training.supervised_module import SupervisedModule
from outrageous.training.tracking import log_expert_use
from outrageous.training.translation_data import TranslationDataModule
from outrageous.training.translation_module import TranslationModule
from outrageous.training.translation_test import score_translations

AnyCorpus = Corpus | ParallelCorpus
AnyDataModule = SentenceDataModule | TranslationDataModule


def prepare(config: AnyRunConfig) -> AnyCorpus:
    """Raises UserError as `prepare_corpus` and `prepare_parallel` do."""
    folder = Path(config.paths.corpora)
    return (
        prepare_corpus(config.data, folder) if isinstance(config, RunConfig) else prepare_parallel(config.data, folder)
    )


def build_module(
    config: AnyRunConfig, vocabulary_size: int, origin: dict[str, Any], processes: Processes | None = None
) -> SupervisedModule:
    """
    Args:
        processes: over which experts are going to be spread: this one's alone are drawn, as they are in a whole model.
            None: all.

    Raises:
        UserError: sizes do not fit together.
    """
    moe = config.model.moe
    try:
        with _own_experts(moe, processes) if moe is not None and processes is not None else nullcontext():
            if isinstance(config, RunConfig):
                return LanguageModule(config, vocabulary_size, origin)
            return TranslationModule(config, vocabulary_size, origin)
    except ValueError as error:
        raise UserError(f"the model's settings do not fit together: {error}") from error


def _own_experts(moe: MoEConfig, processes: Processes) -> AbstractContextManager[None]:
    return keeping(Shard.of(moe.num_units, processes.rank, processes.size).rows)


def build_data(config: AnyRunConfig, corpus: AnyCorpus) -> AnyDataModule:
    if isinstance(corpus, Corpus):
        return SentenceDataModule(corpus, config.trainer, config.seed)
    return TranslationDataModule(corpus, config.trainer, config.seed)


def save_vocabulary(corpus: AnyCorpus, folder: RunFolder) -> None:
    """Beside the checkpoints, to read other texts with."""
    corpus.vocabulary.save(folder.vocabulary if isinstance(corpus, Corpus) else folder.wordpieces)


def further_metrics(
    module: SupervisedModule, data: AnyDataModule, folder: RunFolder, title: str, logger: object
) -> dict[str, float]:
    """Of the weights of a translation model that were tested: BLEU, perplexity with batchwise masks, and how
    specialised its experts are. Leaves translations and experts' contexts in the folder, the latter with the logger."""
    if isinstance(data, SentenceDataModule):
        return {}
    assert isinstance(module, TranslationModule)
    metrics = score_translations(module.model, data.corpus, folder)
    metrics |= batchwise_perplexity(module, data.test_dataloader())
    uses = expert_use(module, data.test_dataloader(), data.corpus.vocabulary)
    leave_expert_use(uses, folder, f"{title}, test part")
    log_expert_use(logger, uses)
    return metrics | to_metrics(uses)
