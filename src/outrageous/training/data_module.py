"""Loaders over a prepared corpus, for Lightning."""

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from outrageous.config import TrainerConfig
from outrageous.data.batching import Batch, BudgetBatchSampler, make_loader
from outrageous.data.corpus import Corpus
from outrageous.data.packing import PackedSentences


class SentenceDataModule(pl.LightningDataModule):
    """Training batches in an order drawn from (seed, epoch), from where the trainer stands; dev and test by length."""

    def __init__(self, corpus: Corpus, trainer: TrainerConfig, seed: int) -> None:
        super().__init__()
        self.corpus, self.config, self.seed = corpus, trainer, seed

    def num_predicted_tokens(self, part: str) -> int:
        sentences: PackedSentences = getattr(self.corpus, part)
        return sentences.num_predicted_tokens

    def train_dataloader(self) -> DataLoader[Batch]:
        loader = make_loader(
            self.corpus.train,
            self.config.words_per_batch,
            shuffle=True,
            seed=self.seed,
            rank=self._rank,
            world_size=self._world_size,
            pin_memory=self._on_gpu,
        )
        assert isinstance(loader.sampler, BudgetBatchSampler)
        if self.trainer is not None:  # one step is one batch, and each epoch has the same number of them
            loader.sampler.start_batch = self.trainer.global_step % len(loader.sampler)
        return loader

    def padding_fraction(self) -> float:
        """Share of the places of all training batches that are padding."""
        sampler = self.train_dataloader().sampler
        assert isinstance(sampler, BudgetBatchSampler)
        return sampler.padding_fraction()

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._eval_loader(self.corpus.dev)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._eval_loader(self.corpus.test)

    def _eval_loader(self, sentences: PackedSentences) -> DataLoader[Batch]:
        return make_loader(
            sentences,
            self.config.eval_words_per_batch,
            shuffle=False,
            pin_memory=self._on_gpu,
            rank=self._rank,
            world_size=self._world_size,
        )

    @property
    def _rank(self) -> int:
        return 0 if self.trainer is None else self.trainer.global_rank

    @property
    def _world_size(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
