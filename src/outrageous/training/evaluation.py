"""Perplexity of a checkpoint."""

from pathlib import Path

import pytorch_lightning as pl

from outrageous.config import CorpusConfig, RunConfig
from outrageous.data.corpus import prepare_corpus
from outrageous.data.vocabulary import Vocabulary
from outrageous.errors import UserError
from outrageous.training.checkpoints import check_fits, check_own, load_weights, read_checkpoint
from outrageous.training.data_module import SentenceDataModule
from outrageous.training.libraries import quieten, set_up_cpu
from outrageous.training.run import dev_and_test
from outrageous.training.run_folder import RunFolder
from outrageous.training.tasks import build_module


def evaluate(config: RunConfig, checkpoint: Path, data: CorpusConfig | None) -> dict[str, float]:
    """dev_perplexity and test_perplexity of a checkpoint over the full softmax, and the share of the test part's words
    that its vocabulary does not have.

    Args:
        config: of the checkpoint's run.
        data: another corpus, whose words are then numbered by the checkpoint's vocabulary; None for that of the run.

    Raises:
        UserError: the checkpoint or its vocabulary is missing or damaged, or does not fit the model or the corpus; or
            the run's corpus is not what it was.
    """
    quieten()
    set_up_cpu(config.trainer.num_threads)
    folder = Path(config.paths.corpora)
    if data is None:
        corpus = prepare_corpus(config.data, folder)
        check_own(checkpoint, corpus)
    else:
        corpus = prepare_corpus(data, folder, _vocabulary_of(checkpoint))
        check_fits(read_checkpoint(checkpoint), checkpoint, corpus)  # before another vocabulary upsets the model
    module = build_module(config, len(corpus.vocabulary), origin={})
    load_weights(module, checkpoint, corpus)
    trainer = pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=config.trainer.precision,  # type: ignore[arg-type] # Lightning says which it takes
        logger=False,
        enable_model_summary=False,
    )
    counts = corpus.meta["parts"]["test"]
    perplexities = dev_and_test(trainer, module, SentenceDataModule(corpus, config.trainer, config.seed))
    return perplexities | {"test_unknown_words": counts["oov"] / counts["words"]}


def _vocabulary_of(checkpoint: Path) -> Vocabulary:
    path = RunFolder(checkpoint.parent).vocabulary
    if not path.exists():
        raise UserError(
            f"cannot number the words of data=… as checkpoint {checkpoint} does: {path}, which training leaves beside "
            "it, is missing; restore it, or leave data=… out"
        )
    return Vocabulary.load(path)
