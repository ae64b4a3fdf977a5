"""Speed of batching, and training steps to be timed."""

import itertools
import statistics
import time
from collections.abc import Iterator

import torch

from outrageous.config import AnyRunConfig
from outrageous.data.batching import Batch, BudgetBatchSampler, make_loader
from outrageous.data.corpus import Corpus
from outrageous.parallel.processes import Processes
from outrageous.parallel.spread import spread
from outrageous.training.settings import check_device
from outrageous.training.step_parts import DATA, OPTIMIZER, label
from outrageous.training.supervised_module import AnyBatch, SupervisedModule
from outrageous.training.tasks import build_module

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


class Stepper:
    """One model with its optimizer, outside Lightning's loop: whole in this process, or spread over some."""

    def __init__(self, config: AnyRunConfig, vocabulary_size: int, processes: Processes | None = None) -> None:
        """
        Args:
            processes: over which experts are spread, as with trainer=expert_parallel; None: one has all.

        Raises:
            UserError: there is no such device.
        """
        check_device(config.trainer)
        on_gpu = torch.cuda.is_available() and config.trainer.accelerator != "cpu"
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self.dtype = torch.bfloat16 if config.trainer.precision == "bf16-mixed" else torch.float32
        with self.device:  # where billions of weights are drawn in no time; others than a run's, on a GPU
            self.module: SupervisedModule = build_module(config, vocabulary_size, origin={}).to(self.device)
        if processes is not None:
            self.module.processes, self.module.batches_are_divided = processes, True
            spread(self.module.model, processes, shard_experts=True)
        self.optimizer = self.module.configure_optimizers()["optimizer"]

    def step(self, batch: AnyBatch) -> float:
        """Seconds of one step."""
        self.wait()
        start = time.perf_counter()
        self.forward_backward(batch)
        self.update()
        self.wait()
        return time.perf_counter() - start

    def forward_backward(self, batch: AnyBatch) -> None:
        """Leaves gradients. Does not wait for a GPU."""
        with label(DATA):
            batch = batch.to(self.device, non_blocking=True)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
            loss = self.module.training_step(batch, 0)["loss"]
        loss.backward()

    def update(self) -> None:
        """Clips gradients, summed over processes, and updates weights. Does not wait for a GPU."""
        with label(OPTIMIZER):
            self.module.configure_gradient_clipping(self.optimizer)
            self.optimizer.step()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def batches_forever(
    corpus: Corpus, words_per_batch: int, processes: Processes = ALONE, for_gpu: bool = False
) -> Iterator[Batch]:
    """Those of training; of several processes, this one's part of each."""
    part = {"rank": processes.rank, "world_size": processes.size}
    loader = make_loader(corpus.train, words_per_batch, shuffle=True, for_gpu=for_gpu, **part)
    assert isinstance(loader.sampler, BudgetBatchSampler)
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        yield from loader
