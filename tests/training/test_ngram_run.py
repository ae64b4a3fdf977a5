from pathlib import Path

import numpy as np
import pytest

from outrageous.commands.compose import run_config
from outrageous.config import RunConfig
from outrageous.data.corpus import prepare_corpus
from outrageous.data.packing import PackedSentences, write_packed
from outrageous.errors import UserError
from outrageous.models.kneser_ney import KneserNey, perplexity
from outrageous.results.provenance import Hardware
from outrageous.results.records import read_record
from outrageous.results.summary import DEV_AFTER_A_TENTH
from outrageous.training import ngram_run
from outrageous.training.ngram_run import run_kneser_ney, stream

EOS, BOS = 8, 9


@pytest.fixture
def config(tiny_corpus: list[str], tmp_path: Path) -> RunConfig:
    return run_config(["experiment=lm/4xlstm_512", *tiny_corpus, f"paths.runs={tmp_path / 'runs'}"])


@pytest.mark.parametrize(("every", "expected"), [(1, [9, 1, 2, 8, 9, 8, 9, 3, 8]), (2, [9, 1, 2, 8, 9, 3, 8])])
@pytest.mark.parametrize("at_once", [1, 2, 4096])
def test_a_stream_has_bos_before_each_sentence(
    every: int, expected: list[int], at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngram_run, "SENTENCES_AT_ONCE", at_once)
    write_packed(tmp_path / "file.arrow", [[1, 2, EOS], [EOS], [3, EOS]])
    tokens = stream(PackedSentences(tmp_path / "file.arrow", BOS), every)
    np.testing.assert_array_equal(tokens, expected)


def test_the_record_says_what_the_model_reaches_on_the_parts_the_others_use(config: RunConfig, tmp_path: Path) -> None:
    record, folder = run_kneser_ney("lm/kneser_ney_5gram", "kneser_ney_5gram", config)
    assert folder.record.is_relative_to(tmp_path / "runs" / "lm" / "kneser_ney_5gram" / "smoke" / "seed_0")
    assert read_record(folder.record) == record
    corpus = prepare_corpus(config.data, Path(config.paths.corpora))
    model = KneserNey(stream(corpus.train), len(corpus.vocabulary), corpus.train.bos_id)
    assert record.metrics["test_perplexity"] == perplexity(model.log_probabilities(stream(corpus.test)))
    assert record.metrics["dev_perplexity"] == perplexity(model.log_probabilities(stream(corpus.dev)))
    assert record.metrics["dev_perplexity"] < record.metrics[DEV_AFTER_A_TENTH] < len(corpus.vocabulary)
    assert (record.parameters, record.ops_per_timestep) == (model.num_parameters, 5)
    assert record.words_trained == corpus.train.num_predicted_tokens
    assert (record.experiment, record.row, record.seed) == ("lm/kneser_ney_5gram", "kneser_ney_5gram", 0)
    assert record.data_fingerprint == corpus.fingerprint


def test_what_is_finished_is_not_counted_again(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = run_kneser_ney("lm/kneser_ney_5gram", None, config)
    monkeypatch.delattr(ngram_run, "KneserNey")
    assert run_kneser_ney("lm/kneser_ney_5gram", None, config)[0] == first


def test_too_little_memory_is_told_before_counting(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_run, "hardware", lambda **_: Hardware("Example CPU", 1, 1, None, memory=1000))
    monkeypatch.delattr(ngram_run, "KneserNey")
    with pytest.raises(
        UserError, match=r"counting [\d,]+ words takes up to .* GB of memory, and this machine has 0 GB"
    ):
        run_kneser_ney("lm/kneser_ney_5gram", None, config)
