"""The 5-gram baseline as a run: corpus, counting, test, record."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outrageous.config import RunConfig
from outrageous.data.corpus import Corpus, prepare_corpus
from outrageous.data.packing import PackedSentences
from outrageous.errors import UserError
from outrageous.models.kneser_ney import KneserNey, perplexity
from outrageous.results.provenance import hardware, software_versions
from outrageous.results.records import Record, read_record, write_record
from outrageous.results.summary import DEV_AFTER_A_TENTH
from outrageous.training.run import start_of_run
from outrageous.training.run_folder import RunFolder, plain_config

ORDER = 5
BYTES_A_WORD = 200  # of memory while counting, at most
SENTENCES_AT_ONCE = 4096


def run_kneser_ney(name: str, row: str | None, config: RunConfig) -> tuple[Record, RunFolder]:
    """Estimates the model from the training part that `config` trains on, with its vocabulary, and leaves a record; or
    returns that of an earlier call.

    The record's seed is 0: nothing is drawn. Its parameters are the numbers stored, its ops one multiply-add an order.

    Args:
        name: the experiment, as in `lm/kneser_ney_5gram`.
        row: the table row that the record belongs to, None for a variation.

    Raises:
        UserError: the text or the disk does not allow it, or it needs more memory than there is.
    """
    origin = start_of_run()
    corpus = prepare_corpus(config.data, Path(config.paths.corpora))
    settings = {"name": name, "order": ORDER, "data": plain_config(config)["data"]}
    digest = hashlib.sha256(json.dumps([name, ORDER, corpus.fingerprint]).encode()).hexdigest()[:10]
    folder = RunFolder(Path(config.paths.runs) / name / config.scale.name / "seed_0" / digest)
    if folder.record.exists():
        return read_record(folder.record), folder
    machine = hardware(threads=1, accelerator=None)
    needed = BYTES_A_WORD * corpus.train.num_predicted_tokens
    if machine.memory is not None and needed > machine.memory:
        raise UserError(
            f"counting {corpus.train.num_predicted_tokens:,} words takes up to {needed / 1e9:.0f} GB of memory, and "
            f"this machine has {machine.memory / 1e9:.0f} GB"
        )
    start = time.perf_counter()
    model = KneserNey(stream(corpus.train), len(corpus.vocabulary), corpus.train.bos_id, ORDER)
    seconds = time.perf_counter() - start
    metrics = {
        "dev_perplexity": _perplexity(model, corpus.dev),
        "test_perplexity": _perplexity(model, corpus.test),
        DEV_AFTER_A_TENTH: _after_a_tenth(corpus),
    }
    record = Record(
        experiment=name,
        row=row,
        scale=config.scale.name,
        seed=0,
        metrics=metrics,
        curve=[],
        parameters=model.num_parameters,
        total_parameters=model.num_parameters,
        ops_per_timestep=ORDER,
        words_trained=corpus.train.num_predicted_tokens,
        words_per_second=round(corpus.train.num_predicted_tokens / seconds, 1),
        wall_seconds=round(time.perf_counter() - start, 1),
        config=settings,
        config_hash=digest,
        versions=software_versions(),
        hardware=machine,
        data_fingerprint=corpus.fingerprint,
        **origin,
    )
    write_record(record, folder.path)
    return record, folder


def stream(sentences: PackedSentences, every: int = 1) -> NDArray[np.int32]:
    """The ids [T] of one sentence in `every`, `<s>` before each."""
    parts = []
    for start in range(0, len(sentences), every * SENTENCES_AT_ONCE):
        chosen = np.arange(start, min(start + every * SENTENCES_AT_ONCE, len(sentences)), every)
        rows = np.pad(sentences.gather(chosen), ((0, 0), (1, 0)), constant_values=sentences.bos_id)  # [B, 1 + L]
        parts.append(rows[np.arange(rows.shape[1]) <= sentences.lengths[chosen, None]])
    return np.concatenate(parts)


def _perplexity(model: KneserNey, sentences: PackedSentences) -> float:
    log_probabilities = model.log_probabilities(stream(sentences))
    assert len(log_probabilities) == sentences.num_predicted_tokens
    return perplexity(log_probabilities)


def _after_a_tenth(corpus: Corpus) -> float:
    """Dev perplexity of the model of one sentence in ten: the corpus is in the order of its sources, so that its first
    tenth would be of one source."""
    tokens = stream(corpus.train, every=10)
    return _perplexity(KneserNey(tokens, len(corpus.vocabulary), corpus.train.bos_id, ORDER), corpus.dev)
