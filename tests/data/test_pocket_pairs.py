"""The shipped verses and help pages: nothing held out is trained on, and batches have little padding."""

import lzma
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from outrageous.config import ParallelCorpusConfig
from outrageous.data.pair_batching import PairBatchSampler
from outrageous.data.parallel_corpus import ParallelCorpus, prepare_parallel

LoadConfig = Callable[..., ParallelCorpusConfig]


@pytest.fixture(scope="module")
def config(load_parallel: LoadConfig, repository: Path) -> ParallelCorpusConfig:
    config = load_parallel("pocket_en_de")
    config.path = [str(repository / path) for path in config.path]
    return config


@pytest.fixture(scope="module")
def corpus(config: ParallelCorpusConfig, tmp_path_factory: pytest.TempPathFactory) -> ParallelCorpus:
    return prepare_parallel(config, tmp_path_factory.mktemp("pocket"))


@pytest.fixture(scope="module")
def rows_of(config: ParallelCorpusConfig, corpus: ParallelCorpus) -> dict[str, list[tuple[str, str]]]:
    """English and German of each part, split here anew by the chapters and pages that the corpus says it holds out."""
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "dev": [], "test": []}
    for path in map(Path, config.path):
        held_out = {part: {*files.get(path.name, [])} for part, files in corpus.meta["held_out_blocks"].items()}
        with lzma.open(path, "rt", encoding="utf-8", newline="\n") as stream:
            for line in stream:
                row_id, english, german, _ = line.rstrip("\n").split("\t")
                block = row_id.rpartition("#")[0] or row_id.rpartition(".")[0]
                part = next((part for part, blocks in held_out.items() if block in blocks), "train")
                parts[part].append((" ".join(english.split()), " ".join(german.split())))
    return parts


def masked(sentence: str) -> str:
    return re.sub(r"\d", "0", sentence.lower())


def longer(pair: tuple[str, str]) -> int:
    """Words of a pair's longer side."""
    return max(len(side.split()) for side in pair)


def test_no_held_out_source_stands_in_training(
    rows_of: dict[str, list[tuple[str, str]]], config: ParallelCorpusConfig, corpus: ParallelCorpus
) -> None:
    trained_on = [pair for pair in rows_of["train"] if pair[1] and longer(pair) <= config.max_words]
    training = {masked(english) for english, _ in trained_on}
    for part in ("dev", "test"):
        sources, references = corpus.text(part, "en-de")
        assert not training & {*map(masked, sources)}
        of_blocks = {pair for pair in rows_of[part] if pair[1]}
        assert {*zip(sources, references, strict=True)} <= of_blocks
        counts = corpus.meta["parts"][part]["en-de"]
        assert counts["pairs"] + counts["duplicates"] + counts["empty"] == len(rows_of[part])


def test_training_is_all_that_is_not_held_out_and_not_too_long(
    rows_of: dict[str, list[tuple[str, str]]], config: ParallelCorpusConfig, corpus: ParallelCorpus
) -> None:
    counts = corpus.meta["parts"]["train"]["en-de"]
    assert counts["pairs"] + counts["empty"] + counts["too_long"] + counts["ratio"] == len(rows_of["train"])
    assert counts["too_long"] == sum(all(pair) and longer(pair) > config.max_words for pair in rows_of["train"])
    assert counts["ratio"] < 0.002 * counts["pairs"]
    assert counts["source_unknown"] + counts["target_unknown"] < 0.001 * counts["target_pieces"]


def test_both_kinds_of_text_are_held_out(corpus: ParallelCorpus) -> None:
    for part in ("dev", "test"):
        blocks = corpus.meta["held_out_blocks"][part]
        assert {*blocks} == {"verses.en-de-fr.tsv.xz", "help.en-de-fr.tsv.xz"}
        assert min(map(len, blocks.values())) >= 15
        assert 1000 < corpus.meta["parts"][part]["en-de"]["pairs"] < 2000


def test_every_direction_holds_out_the_same_rows(load_parallel: LoadConfig, config: ParallelCorpusConfig) -> None:
    shape = ("columns", "dev_fraction", "test_fraction", "split_seed", "block_lines")
    for name in ("pocket_en_fr", "pocket_multilingual"):
        other = load_parallel(name)
        assert [getattr(other, key) for key in shape] == [getattr(config, key) for key in shape]
        assert [Path(path).name for path in other.path] == [Path(path).name for path in config.path]


@pytest.mark.parametrize("words_per_batch", [2048, 4096])
def test_padding_is_small(words_per_batch: int, corpus: ParallelCorpus) -> None:
    sampler = PairBatchSampler(corpus.train, words_per_batch, shuffle=True)
    assert sampler.padding_fraction() < 0.05  # of both sides together; the bound asked for is 0.10


def test_own_pairs_need_a_path_and_a_direction_only(load_parallel: LoadConfig) -> None:
    config = load_parallel("pairs", path="books.tsv", directions=["en-fr"])
    assert (config.path, config.columns, config.hub) == ("books.tsv", None, None)
