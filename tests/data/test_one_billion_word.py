"""One Billion Word is told by its test set, and then every count must be right."""

from collections import Counter
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from outrageous.config import CorpusConfig
from outrageous.data import one_billion_word
from outrageous.data.corpus import prepare_corpus
from outrageous.data.one_billion_word import check_counts, check_files, is_published
from outrageous.data.vocabulary import Vocabulary
from outrageous.errors import UserError

RIGHT: dict[str, Any] = {
    "vocabulary_size": 793_471,
    "parts": {
        "train": {"sentences": 30_301_028},
        "dev": {"sentences": 6_206, "predicted_tokens": 165_560},
        "test": {"sentences": 6_075, "predicted_tokens": 159_658},
    },
}


@pytest.fixture
def test_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the published test set."""
    file = tmp_path / "news.en.heldout-00000-of-00050"
    file.write_text("a sentence of news\n")
    monkeypatch.setattr(one_billion_word, "TEST_MD5", md5(file.read_bytes()).hexdigest())
    return file


def test_the_published_counts_pass(test_file: Path) -> None:
    assert is_published(CorpusConfig("lm1b", ""), [test_file])
    assert not is_published(CorpusConfig("another", ""), [test_file])
    check_counts(CorpusConfig("lm1b", ""), RIGHT, given_vocabulary=False)


def test_a_missing_shard_is_noticed_before_any_is_read(load_config: Any, test_file: Path, tmp_path: Path) -> None:
    names = [f"news.en-{number:05}-of-00100" for number in range(1, 100)]
    check_files({name: tmp_path / name for name in names})
    for name in names[:-1]:
        (tmp_path / name).write_bytes(b"\xff is not even UTF-8")
    held_out = str(test_file)
    config = load_config("lm1b", path=str(tmp_path / "news.en-0*"), dev_path=held_out, test_path=held_out)
    with pytest.raises(UserError, match=r"has 99 training files, not 98. Fetch it again \(make data-lm1b\)"):
        prepare_corpus(config, tmp_path / "corpora")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary_size": 793_470}, "793,470 words of the vocabulary, not 793,471"),
        (
            {"parts": RIGHT["parts"] | {"test": {"sentences": 6_075, "predicted_tokens": 159_657}}},
            "159,657 predicted_tokens of test, not 159,658",
        ),
    ],
)
def test_any_other_count_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_counts(CorpusConfig("lm1b", ""), RIGHT | changes, given_vocabulary=False)


def test_a_smaller_vocabulary_is_a_choice() -> None:
    smaller = RIGHT | {"vocabulary_size": 10_000}
    check_counts(CorpusConfig("lm1b", "", max_size=10_000), smaller, given_vocabulary=False)
    check_counts(CorpusConfig("lm1b", ""), smaller, given_vocabulary=True)  # a checkpoint's


def test_another_corpus_in_its_form_is_not_checked_and_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").write_text("other news\n")
    assert not is_published(CorpusConfig("lm1b", ""), [tmp_path / "other"])
    assert "other: not the test set of One Billion Word" in capsys.readouterr().out


def test_without_the_files_the_command_that_fetches_them_is_named(
    load_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data.path=.* matches no file") as caught:
        prepare_corpus(load_config("lm1b"), tmp_path)
    assert caught.value.__notes__ == ["`make data-lm1b` fetches One Billion Word"]


def test_another_vocabulary_may_number_its_words(
    load_config: Any, test_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `outrageous-evaluate data=lm1b` does with a checkpoint trained on other text; the counts of the text stay."""
    counted = {"train": {"sentences": 2}, "dev": {"sentences": 1, "predicted_tokens": 5}, "test": {"sentences": 1}}
    for name in ("SENTENCES", "PREDICTED_TOKENS"):
        key = name.lower()
        monkeypatch.setattr(
            one_billion_word, name, {part: counts[key] for part, counts in counted.items() if key in counts}
        )
    monkeypatch.setattr(one_billion_word, "NUM_SHARDS", 1)
    (tmp_path / "train").write_text("news of news\nall the news\n")
    (tmp_path / "dev").write_text("more of the news\n")
    config = load_config("lm1b", min_count=3, path=str(tmp_path / "train"), dev_path=str(tmp_path / "dev"))
    config.test_path = str(test_file)
    vocabulary = Vocabulary.from_counts(Counter(["news", "of"]), 1, min_count=1, max_size=None)
    corpus = prepare_corpus(config, tmp_path / "corpora", vocabulary)
    assert corpus.vocabulary.fingerprint == vocabulary.fingerprint
    with pytest.raises(UserError, match="words of the vocabulary, not 793,471"):
        prepare_corpus(config, tmp_path / "corpora")
