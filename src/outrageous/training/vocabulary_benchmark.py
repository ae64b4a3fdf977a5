"""What a large vocabulary costs in a training step, by the optimizer of its tables."""

import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from outrageous.config import RunConfig, TableOptimizer
from outrageous.data.batching import Batch
from outrageous.models.language_model import LanguageModel
from outrageous.models.sampled_softmax import LogUniformSampler
from outrageous.training.benchmark import Stepper
from outrageous.training.libraries import set_up_cpu
from outrageous.training.own_process import in_own_process
from outrageous.training.peak_memory import peak_of_this_process

NUM_STEPS = 3  # of each turn that count; one before them gets memory that they find there
SENTENCE = 25  # words


@dataclass(frozen=True)
class Turn:
    """One process: seconds of each step's two halves, and bytes."""

    forward_backward: list[float]
    update: list[float]
    weights: int
    gradients: int
    state: int
    peak: int
    parameters: int
    table_parameters: int


def measure_vocabulary(config: RunConfig, vocabulary_size: int, num_rounds: int, num_threads: int) -> dict[str, Any]:
    """Median seconds and bytes of a step with each optimizer of embedding and softmax; all take turns in each round,
    every turn in a process of its own. The batch has `config.trainer.words_per_batch` words by Zipf's law."""
    turns: dict[TableOptimizer, list[Turn]] = {optimizer: [] for optimizer in TableOptimizer}
    order = [optimizer for _ in range(num_rounds) for optimizer in TableOptimizer]
    with tqdm(order, "vocabulary", disable=None) as progress:
        for optimizer in progress:
            changed = replace(config, optim=replace(config.optim, tables=optimizer))
            turns[optimizer].append(in_own_process(_turn, changed, vocabulary_size, num_threads))
    some = turns[TableOptimizer.adam][0]
    return {
        "vocabulary_size": vocabulary_size,
        "d_model": config.model.d_model,
        "num_sampled": config.model.num_sampled,
        "num_tokens": config.trainer.words_per_batch,
        "precision": config.trainer.precision,
        "parameters": some.parameters,
        "table_parameters": some.table_parameters,
        "num_rounds": num_rounds,
        "num_steps": NUM_STEPS,
        "rows": [_row(optimizer, ours) for optimizer, ours in turns.items()],
    }


def _row(optimizer: TableOptimizer, turns: list[Turn]) -> dict[str, Any]:
    halves = [halves for turn in turns for halves in zip(turn.forward_backward, turn.update, strict=True)]
    return {
        "optimizer": optimizer.value,
        "weights": turns[0].weights,
        "gradients": turns[0].gradients,
        "state": turns[0].state,
        "peak": statistics.median(turn.peak for turn in turns),
        "forward_backward": statistics.median(first for first, _ in halves),
        "update": statistics.median(second for _, second in halves),
        "step": statistics.median(first + second for first, second in halves),
    }


def _turn(config: RunConfig, vocabulary_size: int, num_threads: int) -> Turn:
    set_up_cpu(num_threads)
    stepper = Stepper(config, vocabulary_size)
    batch = _batch(config, vocabulary_size)
    times = []
    for _ in range(1 + NUM_STEPS):
        start = time.perf_counter()
        stepper.forward_backward(batch)
        stepper.wait()
        middle = time.perf_counter()
        stepper.update()
        stepper.wait()
        times.append((middle - start, time.perf_counter() - middle))
    weights = list(stepper.module.parameters())
    states = [stepper.optimizer.state[weight].values() for weight in weights]
    state = [each for values in states for each in values if isinstance(each, Tensor)]
    model = stepper.module.model
    assert isinstance(model, LanguageModel)
    tables = (model.embedding.weight, model.softmax.weight)
    return Turn(
        forward_backward=[first for first, _ in times[1:]],
        update=[second for _, second in times[1:]],
        weights=sum(weight.nbytes for weight in weights),
        gradients=sum(_bytes(weight.grad) for weight in weights if weight.grad is not None),
        state=sum(tensor.nbytes for tensor in state),
        peak=torch.cuda.max_memory_allocated() if stepper.device.type == "cuda" else peak_of_this_process(),
        parameters=sum(weight.numel() for weight in weights),
        table_parameters=sum(table.numel() for table in tables),
    )


def _batch(config: RunConfig, vocabulary_size: int) -> Batch:
    """Whole sentences of 25 words, each drawn as the sampler draws: by Zipf's law over the ids."""
    num_sentences = -(-config.trainer.words_per_batch // SENTENCE)
    sampler = LogUniformSampler(vocabulary_size, 1)
    shape = (num_sentences, SENTENCE)
    inputs, targets = (sampler.draw(num_sentences * SENTENCE, torch.device("cpu")).view(shape) for _ in range(2))
    mask = torch.arange(num_sentences * SENTENCE).view(shape) < config.trainer.words_per_batch
    return Batch(inputs, targets, mask, torch.arange(config.trainer.words_per_batch))


def _bytes(gradient: Tensor) -> int:
    return gradient._indices().nbytes + gradient._values().nbytes if gradient.is_sparse else gradient.nbytes
