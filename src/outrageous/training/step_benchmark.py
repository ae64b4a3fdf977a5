"""Whole training steps of language models: speed, what it goes to, how near the device's own, and peak memory."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule
from tqdm import tqdm

from outrageous.config import RunConfig, TableOptimizer
from outrageous.data.batching import Batch
from outrageous.data.corpus import Corpus, prepare_corpus
from outrageous.models.cost import cost, expert_ops
from outrageous.models.language_model import LanguageModel
from outrageous.training.benchmark import Stepper, batches_forever
from outrageous.training.device_memory import reason_of
from outrageous.training.libraries import set_up_cpu
from outrageous.training.own_process import in_own_process
from outrageous.training.peak_memory import peak_of_this_process
from outrageous.training.predicted_memory import predict_memory
from outrageous.training.step_parts import DATA, WAITING, label, label_parts, seconds_of_parts

NUM_WARM_UPS = {"cpu": 3, "cuda": 20}  # on a GPU PyTorch's allocator and libraries meet each shape for the first time
NUM_STRETCHES, NUM_STEPS = 3, 10  # of each turn, and in each stretch, at the end of which alone a GPU is waited for
NUM_TRACED = 5  # steps; batches differ
AFTER_ONE = schedule(wait=0, warmup=1, active=1)  # traced after one step for the profiler to get ready in
DENSE_SIZE = {"cpu": 1024, "cuda": 8192}  # of the square matrices that tell how fast a device multiplies
NUM_PRODUCTS = {"cpu": 1, "cuda": 20}  # which follow each other, in each of
NUM_MEASURED = 5
TO_SPEED = 0.3  # seconds of products before those: an idle GPU has a low clock


@dataclass(frozen=True)
class Turn:
    """One process.

    Attributes:
        speeds: of each stretch of steps, words per second.
        seconds: of each stretch, those of a step.
        parts: share of each part; of a GPU, which may wait for the host, also of the time in which it computes nothing.
        peak: bytes, of a GPU; where there is none, of the process.
        flops_per_word: as the paper counts.
        expert_flops_per_word: of these, the experts'.
        vocabulary_size: of the corpus.
        on_gpu: whether a GPU computed.
        dense_flops: per second, of a product of large square matrices in the dtype of computation.
    """

    speeds: list[float]
    seconds: list[float]
    parts: dict[str, float]
    peak: int
    flops_per_word: int
    expert_flops_per_word: int
    vocabulary_size: int
    on_gpu: bool
    dense_flops: float


def measure_steps(configs: list[RunConfig], num_rounds: int, num_threads: int) -> Iterator[dict[str, Any]]:
    """After each turn the figures so far: a row for each configuration that had one, of medians, or with the reason why
    it has none. In each round all take turns, every turn in a process of its own, on the batches of its own
    configuration's corpus; who fails has no further one.

    Raises:
        UserError: the device is not there.
    """
    turns: list[list[Turn]] = [[] for _ in configs]
    rows: dict[int, dict[str, Any]] = {}
    order = [number for _ in range(num_rounds) for number in range(len(configs))]
    with tqdm(order, "steps", disable=None) as progress:
        for number in progress:
            if "reason" in rows.get(number, {}):
                continue
            turn = in_own_process(_turn, configs[number], num_threads)
            if isinstance(turn, str):
                rows[number] = {"experiment": configs[number].name, "reason": turn}
            else:
                turns[number].append(turn)
                rows[number] = _row(configs[number], turns[number])
            measured = [rows[each] for each in sorted(rows)]
            sizes = {"num_rounds": num_rounds, "num_stretches": NUM_STRETCHES, "num_steps": NUM_STEPS}
            yield {**sizes, "rows": measured}


def _row(config: RunConfig, turns: list[Turn]) -> dict[str, Any]:
    words_per_second = statistics.median(speed for turn in turns for speed in turn.speeds)
    tflops = words_per_second * turns[0].flops_per_word / 1e12
    dense_tflops = statistics.median(turn.dense_flops for turn in turns) / 1e12
    parts = {part: statistics.median(turn.parts[part] for turn in turns) for part in turns[0].parts}
    expert_tflops = (
        words_per_second * turns[0].expert_flops_per_word / parts["experts"] / 1e12 if parts["experts"] else 0.0
    )
    predictable = turns[0].on_gpu and config.optim.tables is not TableOptimizer.sparse_adam
    return {
        "experiment": config.name,
        "precision": config.trainer.precision,
        "words_per_batch": config.trainer.words_per_batch,
        "words_per_second": words_per_second,
        "seconds": statistics.median(seconds for turn in turns for seconds in turn.seconds),
        "parts": parts,
        "tflops": tflops,
        "dense_tflops": dense_tflops,
        "share_of_dense": tflops / dense_tflops,
        "expert_tflops": expert_tflops,
        "expert_share_of_dense": expert_tflops / dense_tflops,
        "peak": max(turn.peak for turn in turns),
        "predicted_peak": predict_memory(config, turns[0].vocabulary_size).peak if predictable else None,
    }


def _turn(config: RunConfig, num_threads: int) -> Turn | str:
    """Or the reason why it did not end."""
    set_up_cpu(num_threads)
    corpus = prepare_corpus(config.data, Path(config.paths.corpora))
    try:
        return _measured(config, corpus)
    except RuntimeError as error:  # one model that does not run must not end the measuring of others
        return reason_of(error)


def _measured(config: RunConfig, corpus: Corpus) -> Turn:
    stepper = Stepper(config, len(corpus.vocabulary))
    model, on_gpu = stepper.module.model, stepper.device.type == "cuda"
    assert isinstance(model, LanguageModel)
    label_parts(model)
    batches = batches_forever(corpus, config.trainer.words_per_batch, for_gpu=on_gpu)
    for _ in range(NUM_WARM_UPS[stepper.device.type]):
        _step(stepper, batches)
    measured = [_stretch(stepper, batches, NUM_STEPS) for _ in range(NUM_STRETCHES)]
    speeds = [words / of_stretch for words, of_stretch in measured]
    peak = torch.cuda.max_memory_allocated() if on_gpu else peak_of_this_process()
    dense = dense_flops(stepper.device, stepper.dtype)
    parts = _traced(stepper, batches)
    if on_gpu:  # beside steps that were not traced, which takes the host time
        parts[WAITING] = max(0.0, 1 / statistics.median(speeds) - sum(parts.values()))
    return Turn(
        speeds=speeds,
        seconds=[of_stretch / NUM_STEPS for _, of_stretch in measured],
        parts={part: of_part / sum(parts.values()) for part, of_part in parts.items()},
        peak=peak,
        flops_per_word=cost(model).flops_per_training_word,
        expert_flops_per_word=2 * 3 * expert_ops(model),
        vocabulary_size=len(corpus.vocabulary),
        on_gpu=on_gpu,
        dense_flops=dense,
    )


def _traced(stepper: Stepper, batches: Iterator[Batch]) -> dict[str, float]:
    """Seconds for each word of some steps, by part."""
    on_gpu = stepper.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, schedule=AFTER_ONE) as trace:
        _stretch(stepper, batches, 1)
        trace.step()
        words, _ = _stretch(stepper, batches, NUM_TRACED)
    return {part: seconds / words for part, seconds in seconds_of_parts(trace, on_gpu).items()}


def _stretch(stepper: Stepper, batches: Iterator[Batch], num_steps: int) -> tuple[int, float]:
    """Words and seconds of some steps, which follow each other as in training: a GPU is not waited for between them."""
    stepper.wait()
    start = time.perf_counter()
    words = sum(_step(stepper, batches) for _ in range(num_steps))
    stepper.wait()
    return words, time.perf_counter() - start


def _step(stepper: Stepper, batches: Iterator[Batch]) -> int:
    """Words of one step, from fetching the batch to the update."""
    with label(DATA):
        batch = next(batches)
    stepper.forward_backward(batch)
    stepper.update()
    return batch.num_tokens


def dense_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of products of square matrices, the median of some."""
    size, num_products = DENSE_SIZE[device.type], NUM_PRODUCTS[device.type]
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(num_products):
            product = a @ b
        product[0, 0].item()  # waits
        return (time.perf_counter() - start) / num_products

    to_speed = time.perf_counter() + TO_SPEED
    while time.perf_counter() < to_speed:
        seconds()
    return 2 * size**3 / statistics.median(seconds() for _ in range(NUM_MEASURED))
