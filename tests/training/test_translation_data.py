"""Loaders over a small parallel corpus, and where they go on."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from outrageous.config import ParallelCorpusConfig, RunConfig
from outrageous.data.pair_dataset import PairBatch
from outrageous.data.parallel_corpus import ParallelCorpus, prepare_parallel
from outrageous.training.translation_data import TranslationDataModule

WORDS = ("cat", "dog", "bird", "house", "tree", "river", "stone", "wind", "fire", "snow")


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> ParallelCorpus:
    folder = tmp_path_factory.mktemp("parallel")
    texts = [" ".join(WORDS[(i * k) % 10] for k in range(1, 3 + i % 7)) + f" {chr(97 + i % 26)}" for i in range(300)]
    lines = "".join(f"{text}\t{text.upper()}\t{text[::-1]}\n" for text in texts)
    (folder / "pairs.tsv").write_text(lines, encoding="utf-8")
    config = ParallelCorpusConfig(
        name="tiny",
        path=str(folder / "pairs.tsv"),
        columns=["en", "de", "fr"],
        directions=["en-de", "en-fr"],
        weights=[1.0, 0.5],
        vocabulary_size=120,
        block_lines=10,
        dev_fraction=0.1,
        test_fraction=0.1,
    )
    return prepare_parallel(config, folder / "prepared")


@pytest.fixture
def data(settings: Callable[..., RunConfig], parallel: ParallelCorpus) -> TranslationDataModule:
    trainer = settings(Path("runs"), "trainer.words_per_batch=600", "trainer.eval_words_per_batch=300").trainer
    return TranslationDataModule(parallel, trainer, seed=3)


def pairs(loader: DataLoader[PairBatch]) -> list[tuple[list[int], list[int]]]:
    return [
        (batch.source[row][batch.source_mask[row]].tolist(), batch.targets[row][batch.mask[row]].tolist())
        for batch in loader
        for row in range(len(batch.source))
    ]


def test_an_epoch_has_the_pairs_of_each_direction_by_weight(
    data: TranslationDataModule, parallel: ParallelCorpus
) -> None:
    sources = [source for source, _ in pairs(data.train_dataloader())]
    de, fr = (parallel.vocabulary.encode_sources([""], language)[0][0] for language in ("de", "fr"))
    num = {name: len(rows) for name, rows in parallel.train.rows_of.items()}
    assert sum(source[0] == de for source in sources) == num["en-de"]
    assert sum(source[0] == fr for source in sources) == round(num["en-fr"] / 2)
    assert data.num_predicted_tokens("train") == parallel.train.num_predicted_tokens
    assert all(batch.source.numel() + batch.targets.numel() <= 600 for batch in data.train_dataloader())
    assert 0 < data.padding_fraction() < 0.5


def test_goes_on_behind_the_batches_of_this_epoch_that_are_done(data: TranslationDataModule) -> None:
    whole = pairs(data.train_dataloader())
    batches = [batch.targets.tolist() for batch in data.train_dataloader()]
    for step, skipped in ((0, 0), (3, 3), (len(batches), 0), (len(batches) + 2, 2)):
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        data.trainer = SimpleNamespace(global_step=step, strategy=strategy, global_rank=0, world_size=1)  # type: ignore[assignment]
        assert [batch.targets.tolist() for batch in data.train_dataloader()] == batches[skipped:]
    other = TranslationDataModule(data.corpus, data.config, seed=4)
    assert pairs(other.train_dataloader()) != whole


def test_dev_and_test_are_whole_whatever_the_weights(data: TranslationDataModule, parallel: ParallelCorpus) -> None:
    for part, make in (("dev", data.val_dataloader), ("test", data.test_dataloader)):
        found = pairs(make())
        assert found == pairs(make())
        wanted = []
        for direction in ("en-de", "en-fr"):
            sources, references = parallel.text(part, direction)
            encoded = parallel.vocabulary.encode_sources(sources, direction[-2:])
            wanted += list(zip(encoded, parallel.vocabulary.encode_targets(references), strict=True))
        assert sorted(found) == sorted(wanted)
        assert sum(len(target) for _, target in found) == data.num_predicted_tokens(part)
