"""Loaders over the tiny corpus, and where they go on."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from outrageous.config import RunConfig
from outrageous.data.batching import Batch, BudgetBatchSampler
from outrageous.data.corpus import Corpus
from outrageous.training.data_module import SentenceDataModule


@pytest.fixture
def data(settings: Callable[..., RunConfig], corpus: Corpus) -> SentenceDataModule:
    return SentenceDataModule(corpus, settings(Path("runs"), "trainer.eval_words_per_batch=70").trainer, seed=3)


def at_step(data: SentenceDataModule, step: int) -> None:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(global_step=step, strategy=strategy, global_rank=0, world_size=1)  # type: ignore[assignment]


def test_batches_reach_their_device_without_waiting(data: SentenceDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[bool] = []
    to: Any = Tensor.to

    def seen(tensor: Tensor, *args: Any, non_blocking: bool = False, **kwargs: Any) -> Tensor:
        waits.append(not non_blocking)
        moved: Tensor = to(tensor, *args, non_blocking=non_blocking, **kwargs)
        return moved

    batch = next(iter(data.train_dataloader()))
    monkeypatch.setattr(Tensor, "to", seen)
    there = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert there.targets.device.type == "meta"
    assert waits == [False] * 4


def sentences(loader: DataLoader[Batch]) -> list[list[int]]:
    return [row[keep].tolist() for batch in loader for row, keep in zip(batch.targets, batch.mask, strict=True)]


def test_an_epoch_has_every_training_sentence_once(data: SentenceDataModule, corpus: Corpus) -> None:
    rows = sentences(data.train_dataloader())
    assert len(rows) == len(corpus.train)
    assert sum(map(len, rows)) == data.num_predicted_tokens("train") == corpus.train.num_predicted_tokens


@pytest.mark.parametrize(("step", "skipped"), [(0, 0), (5, 5), (15, 15), (16, 0), (21, 5)])
def test_goes_on_behind_the_batches_of_this_epoch_that_are_done(
    data: SentenceDataModule, step: int, skipped: int
) -> None:
    whole = [batch.targets.tolist() for batch in data.train_dataloader()]
    assert len(whole) == 16
    at_step(data, step)
    assert [batch.targets.tolist() for batch in data.train_dataloader()] == whole[skipped:]


def test_batches_depend_on_the_seed_and_keep_to_the_budget(data: SentenceDataModule) -> None:
    loader = data.train_dataloader()
    assert all(batch.num_tokens <= 200 for batch in loader)
    other = SentenceDataModule(data.corpus, data.config, seed=4).train_dataloader()
    assert sentences(loader) != sentences(other)
    assert sorted(sentences(loader)) == sorted(sentences(other))


def test_dev_and_test_are_whole_and_always_in_the_same_order(data: SentenceDataModule, corpus: Corpus) -> None:
    for part, make in (("dev", data.val_dataloader), ("test", data.test_dataloader)):
        loader = make()
        assert isinstance(loader.sampler, BudgetBatchSampler)
        assert len(loader.sampler) > 1
        assert all(batch.num_tokens <= 70 for batch in loader)
        rows = sentences(loader)
        assert rows == sentences(make())
        assert sum(map(len, rows)) == data.num_predicted_tokens(part)
    assert data.num_predicted_tokens("test") == corpus.test.num_predicted_tokens
