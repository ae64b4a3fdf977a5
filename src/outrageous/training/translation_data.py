"""Loaders over a prepared parallel corpus, for Lightning."""

from torch.utils.data import DataLoader

from outrageous.data.pair_batching import make_pair_loader
from outrageous.data.pair_dataset import PairBatch
from outrageous.data.parallel_corpus import ParallelCorpus
from outrageous.training.data_module import CorpusDataModule, Sharing


class TranslationDataModule(CorpusDataModule[ParallelCorpus, PairBatch]):
    """Of pairs; budgets are words of both sides, padding included."""

    def _training_loader(self, sharing: Sharing) -> DataLoader[PairBatch]:
        return make_pair_loader(
            self.corpus.train,
            self.config.words_per_batch,
            weights=self.corpus.weights,
            shuffle=True,
            seed=self.seed,
            **sharing,
        )

    def _eval_loader(self, part: str, sharing: Sharing) -> DataLoader[PairBatch]:
        return make_pair_loader(getattr(self.corpus, part), self.config.eval_words_per_batch, shuffle=False, **sharing)
