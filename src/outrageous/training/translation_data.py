"""Loaders over a prepared parallel corpus, for Lightning."""

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from outrageous.config import TrainerConfig
from outrageous.data.packed_pairs import PackedPairs
from outrageous.data.pair_batching import PairBatchSampler, make_pair_loader
from outrageous.data.pair_dataset import PairBatch
from outrageous.data.parallel_corpus import ParallelCorpus


class TranslationDataModule(pl.LightningDataModule):
    """Training batches in an order drawn from (seed, epoch), from where the trainer stands; dev and test by length.

    Budgets are words of both sides, padding included.
    """

    def __init__(self, corpus: ParallelCorpus, trainer: TrainerConfig, seed: int) -> None:
        super().__init__()
        self.corpus, self.config, self.seed = corpus, trainer, seed

    def num_predicted_tokens(self, part: str) -> int:
        pairs: PackedPairs = getattr(self.corpus, part)
        return pairs.num_predicted_tokens

    def train_dataloader(self) -> DataLoader[PairBatch]:
        loader = make_pair_loader(
            self.corpus.train,
            self.config.words_per_batch,
            weights=self.corpus.weights,
            shuffle=True,
            seed=self.seed,
            rank=self._rank,
            world_size=self._world_size,
            pin_memory=self._on_gpu,
        )
        assert isinstance(loader.sampler, PairBatchSampler)
        if self.trainer is not None:  # one step is one batch, and each epoch has the same number of them
            loader.sampler.start_batch = self.trainer.global_step % len(loader.sampler)
        return loader

    def padding_fraction(self) -> float:
        """Share of the places of all training batches of the first epoch that are padding."""
        sampler = self.train_dataloader().sampler
        assert isinstance(sampler, PairBatchSampler)
        return sampler.padding_fraction()

    def val_dataloader(self) -> DataLoader[PairBatch]:
        return self._eval_loader(self.corpus.dev)

    def test_dataloader(self) -> DataLoader[PairBatch]:
        return self._eval_loader(self.corpus.test)

    def _eval_loader(self, pairs: PackedPairs) -> DataLoader[PairBatch]:
        return make_pair_loader(
            pairs,
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
