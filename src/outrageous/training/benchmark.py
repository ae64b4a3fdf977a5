"""Speed of batching and of whole training steps, measured alternately."""

import statistics
import time
from collections.abc import Iterator

import torch

from outrageous.config import RunConfig
from outrageous.data.batching import Batch, BudgetBatchSampler, make_loader
from outrageous.data.corpus import Corpus
from outrageous.parallel.processes import Processes
from outrageous.parallel.spread import spread, sum_gradients
from outrageous.training.language_module import LanguageModule

ALONE = Processes()


def batching_speed(corpus: Corpus, words_per_batch: int, num_epochs: int) -> dict[str, float]:
    """Median over epochs of predicted words per second from the packed corpus, one process; and the padding's share."""
    loader = make_loader(corpus.train, words_per_batch, shuffle=True)
    assert isinstance(loader.sampler, BudgetBatchSampler)
    speeds = []
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)
        start = time.perf_counter()
        words = sum(batch.num_tokens for batch in loader)
        speeds.append(words / (time.perf_counter() - start))
    return {"words_per_second": statistics.median(speeds), "padding": loader.sampler.padding_fraction()}


def step_speeds(configs: list[RunConfig], corpus: Corpus, num_rounds: int, warmup_rounds: int = 3) -> dict[str, float]:
    """Median words per second of whole training steps (forward, backward, clipping, Adam) by experiment.

    In each round every model takes one step on the same batch, so that whatever else the machine does meets all alike.
    """
    steps = [Stepper(config, len(corpus.vocabulary)) for config in configs]
    batches = batches_forever(corpus, configs[0].trainer.words_per_batch)
    speeds: dict[str, list[float]] = {config.name: [] for config in configs}
    for round_ in range(warmup_rounds + num_rounds):
        batch = next(batches)
        for stepper in steps:
            seconds = stepper.step(batch)
            if round_ >= warmup_rounds:
                speeds[stepper.name].append(batch.num_tokens / seconds)
    return {name: statistics.median(values) for name, values in speeds.items()}


class Stepper:
    """One model with its optimizer, outside Lightning's loop: whole in this process, or spread over some."""

    def __init__(self, config: RunConfig, vocabulary_size: int, processes: Processes | None = None) -> None:
        """processes: over which experts are spread, as with trainer=expert_parallel; None: trainer=auto."""
        self.name = config.name
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.module = LanguageModule(config, vocabulary_size, origin={}).to(self.device)
        if processes is not None:
            self.module.processes, self.module.batches_are_divided = processes, True
            spread(self.module.model, processes, shard_experts=True)
        self.optimizer = self.module.configure_optimizers()["optimizer"]

    def step(self, batch: Batch) -> float:
        """Seconds of one step."""
        batch = batch.to(self.device)
        self._wait()
        start = time.perf_counter()
        loss = self.module.training_step(batch, 0)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        sum_gradients(self.module, self.module.processes)
        self.module.configure_gradient_clipping(self.optimizer)
        self.optimizer.step()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def batches_forever(corpus: Corpus, words_per_batch: int, processes: Processes = ALONE) -> Iterator[Batch]:
    """Those of training; of several processes, this one's part of each."""
    while True:
        yield from make_loader(
            corpus.train, words_per_batch, shuffle=True, rank=processes.rank, world_size=processes.size
        )
