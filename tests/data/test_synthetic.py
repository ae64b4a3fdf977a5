"""A corpus drawn at random: of the sizes asked for, and read as any other."""

from pathlib import Path

import numpy as np
import pytest

from outrageous.config import CorpusConfig, Source
from outrageous.data.corpus import prepare_corpus
from outrageous.errors import UserError


def settings(max_size: int | None = 500, max_rows: int | None = 5000) -> CorpusConfig:
    return CorpusConfig("synthetic", None, source=Source.synthetic, max_size=max_size, max_rows=max_rows)


def test_sizes_and_frequencies(tmp_path: Path) -> None:
    corpus = prepare_corpus(settings(), tmp_path)
    assert len(corpus.vocabulary) == 500
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (5000, 100, 100)
    assert corpus.train.lengths.mean() == pytest.approx(25.4 + 0.5, abs=0.7)  # with </s>, rounded down
    rows = corpus.train.gather(np.arange(5000))
    assert (rows[np.arange(5000), corpus.train.lengths - 1] == corpus.vocabulary.eos_id).all()
    mask = np.arange(rows.shape[1]) < corpus.train.lengths[:, None] - 1
    words = rows[mask]
    assert not np.isin(words, [corpus.vocabulary.eos_id, corpus.vocabulary.unk_id, corpus.vocabulary.bos_id]).any()
    # p(0) = log 2 / log 498 = 0.1116, of the word behind </s>
    assert (words == 1).mean() == pytest.approx(0.1116, abs=0.004)
    assert words.max() == 497


def test_the_same_settings_give_the_same_corpus(tmp_path: Path) -> None:
    one, other = (prepare_corpus(settings(), tmp_path / name) for name in ("one", "other"))
    assert one.fingerprint == other.fingerprint
    everything = np.arange(5000)
    assert np.array_equal(one.train.gather(everything), other.train.gather(everything))


@pytest.mark.parametrize(("max_size", "max_rows"), [(None, 10), (10, None)])
def test_sizes_must_be_given(max_size: int | None, max_rows: int | None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of the vocabulary, and data"):
        prepare_corpus(settings(max_size, max_rows), tmp_path)
