"""What differs between language models and translation: corpus, module, loaders, and what is left after the test."""

from pathlib import Path
from typing import Any

from outrageous.config import AnyRunConfig, RunConfig
from outrageous.data.corpus import Corpus, prepare_corpus
from outrageous.data.parallel_corpus import ParallelCorpus, prepare_parallel
from outrageous.errors import UserError
from outrageous.training.data_module import SentenceDataModule
from outrageous.training.language_module import LanguageModule
from outrageous.training.run_folder import RunFolder
from outrageous.training.supervised_module import SupervisedModule
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


def build_module(config: AnyRunConfig, vocabulary_size: int, origin: dict[str, Any]) -> SupervisedModule:
    """Raises UserError if sizes do not fit together."""
    try:
        if isinstance(config, RunConfig):
            return LanguageModule(config, vocabulary_size, origin)
        return TranslationModule(config, vocabulary_size, origin)
    except ValueError as error:
        raise UserError(f"the model's settings do not fit together: {error}") from error


def build_data(config: AnyRunConfig, corpus: AnyCorpus) -> AnyDataModule:
    if isinstance(corpus, Corpus):
        return SentenceDataModule(corpus, config.trainer, config.seed)
    return TranslationDataModule(corpus, config.trainer, config.seed)


def save_vocabulary(corpus: AnyCorpus, folder: RunFolder) -> None:
    """Beside the checkpoints, to read other texts with."""
    corpus.vocabulary.save(folder.vocabulary if isinstance(corpus, Corpus) else folder.wordpieces)


def further_metrics(module: SupervisedModule, corpus: AnyCorpus, folder: RunFolder) -> dict[str, float]:
    """Of the weights that were tested, BLEU of translations, some of which are left in the folder."""
    if isinstance(corpus, Corpus):
        return {}
    assert isinstance(module, TranslationModule)
    return score_translations(module.model, corpus, folder)
