"""Loaders over a prepared corpus, for Lightning."""

from abc import abstractmethod
from typing import Any, Generic, TypedDict, TypeVar

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from outrageous.config import TrainerConfig
from outrageous.data.batch_sampler import BatchSampler
from outrageous.data.batching import Batch, make_loader
from outrageous.data.corpus import Corpus
from outrageous.data.parallel_corpus import ParallelCorpus

C = TypeVar("C", Corpus, ParallelCorpus)
B = TypeVar("B")  # what its loaders give


class Sharing(TypedDict):
    """Which part of each batch is for this process, and whether it goes on to a GPU; as makers of loaders take it."""

    rank: int
    world_size: int
    for_gpu: bool


class CorpusDataModule(pl.LightningDataModule, Generic[C, B]):
    """Training batches in an order drawn from (seed, epoch), from where the trainer stands; dev and test by length."""

    def __init__(self, corpus: C, trainer: TrainerConfig, seed: int) -> None:
        super().__init__()
        self.corpus: C = corpus
        self.config, self.seed = trainer, seed

    @abstractmethod
    def _training_loader(self, sharing: Sharing) -> DataLoader[B]:
        """From the start of an epoch."""

    @abstractmethod
    def _eval_loader(self, part: str, sharing: Sharing) -> DataLoader[B]:
        """Of dev or test."""

    def num_predicted_tokens(self, part: str) -> int:
        """Of train, dev or test, `</s>` included."""
        number: int = getattr(self.corpus, part).num_predicted_tokens
        return number

    def train_dataloader(self) -> DataLoader[B]:
        """From the batch that comes next."""
        loader = self._training_loader(self._sharing())
        if self.trainer is not None:  # one step is one batch, and each epoch has the same number of them
            sampler = _sampler(loader)
            sampler.start_batch = self.trainer.global_step % len(sampler)
        return loader

    def padding_fraction(self) -> float:
        """Share of the places of all training batches of the first epoch that are padding."""
        return _sampler(self._training_loader(self._sharing())).padding_fraction()

    def val_dataloader(self) -> DataLoader[B]:
        """All of dev."""
        return self._eval_loader("dev", self._sharing())

    def test_dataloader(self) -> DataLoader[B]:
        """All of test."""
        return self._eval_loader("test", self._sharing())

    def transfer_batch_to_device(self, batch: B, device: torch.device, dataloader_idx: int) -> B:
        """Without waiting for the copy, as Lightning would for what is no tensor."""
        on_device: B = batch.to(device, non_blocking=True)  # type: ignore[attr-defined]
        return on_device

    def _sharing(self) -> Sharing:
        if self.trainer is None:
            return Sharing(rank=0, world_size=1, for_gpu=False)
        on_gpu = self.trainer.strategy.root_device.type == "cuda"
        return Sharing(rank=self.trainer.global_rank, world_size=self.trainer.world_size, for_gpu=on_gpu)


class SentenceDataModule(CorpusDataModule[Corpus, Batch]):
    """Of sentences; budgets are predicted words."""

    def _training_loader(self, sharing: Sharing) -> DataLoader[Batch]:
        return make_loader(self.corpus.train, self.config.words_per_batch, shuffle=True, seed=self.seed, **sharing)

    def _eval_loader(self, part: str, sharing: Sharing) -> DataLoader[Batch]:
        return make_loader(getattr(self.corpus, part), self.config.eval_words_per_batch, shuffle=False, **sharing)


def _sampler(loader: DataLoader[Any]) -> BatchSampler:
    assert isinstance(loader.sampler, BatchSampler)
    return loader.sampler
