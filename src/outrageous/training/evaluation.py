"""Perplexity of a checkpoint."""

from pathlib import Path

import pytorch_lightning as pl

from outrageous.config import RunConfig
from outrageous.data.corpus import prepare_corpus
from outrageous.training.checkpoints import check_fits, load_weights, read_checkpoint
from outrageous.training.data_module import SentenceDataModule
from outrageous.training.libraries import quieten, set_up_cpu
from outrageous.training.run import build_module, dev_and_test


def evaluate(config: RunConfig, checkpoint: Path) -> dict[str, float]:
    """dev_perplexity and test_perplexity of a checkpoint on the corpus of `config`, over the full softmax.

    Raises:
        UserError: the checkpoint is missing or damaged, or does not fit the model or the vocabulary.
    """
    quieten()
    set_up_cpu(config.trainer.num_threads)
    corpus = prepare_corpus(config.data, Path(config.paths.corpora))
    check_fits(read_checkpoint(checkpoint), checkpoint, corpus)  # before a vocabulary that differs upsets the model
    module = build_module(config, len(corpus.vocabulary), origin={})
    load_weights(module, checkpoint, corpus)
    trainer = pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=config.trainer.precision,  # type: ignore[arg-type] # Lightning says which it takes
        logger=False,
        enable_model_summary=False,
    )
    return dev_and_test(trainer, module, SentenceDataModule(corpus, config.trainer, config.seed))
