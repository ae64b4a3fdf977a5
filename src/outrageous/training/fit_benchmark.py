"""Whether models fit a device: memory that training steps take, beside what is predicted."""

import ctypes
import gc
import statistics
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from outrageous.config import AnyRunConfig
from outrageous.errors import UserError
from outrageous.moe.device import as_on_gpu
from outrageous.moe.part import at_hand
from outrageous.training.benchmark import Stepper
from outrageous.training.device_memory import reason_of
from outrageous.training.imagined import GpuPart, imagine_lstms
from outrageous.training.libraries import set_up_cpu
from outrageous.training.own_process import in_own_process
from outrageous.training.peak_memory import forget_peak, peak_of_this_process
from outrageous.training.predicted_memory import LENGTH, batch_of, predict_memory
from outrageous.training.supervised_module import AnyBatch

NUM_STEPS = {"cuda": 20, "cpu": 3}
LENGTHS = {"cuda": (LENGTH, 9, 40, 18, 61), "cpu": (LENGTH,)}  # of sentences: fragments come from batches that differ
M_MMAP_THRESHOLD = -3  # of glibc's mallopt: from how many bytes memory goes back to the system when it is freed


def measure_fit(config: AnyRunConfig, vocabulary_size: int, num_threads: int) -> dict[str, Any]:
    """Peak bytes of some steps, and of a GPU those that PyTorch reserved for them, and median seconds of one, in a
    process of its own; or the reason why they did not end; and the predicted peak. Batches are of words drawn evenly
    and have no padding; on a GPU sentences are of other lengths in each step.

    Without a GPU, the operations that a GPU would do are done on the CPU, but for LSTMs, which take the predicted
    memory and compute nothing; the peak is then what the process grew by beyond what it kept of such steps before.

    Raises UserError if the device is not there.
    """
    predicted = predict_memory(config, vocabulary_size)
    turn = in_own_process(_turn, config, vocabulary_size, num_threads)
    return {
        "experiment": config.name,
        "precision": config.trainer.precision,
        "words_per_batch": config.trainer.words_per_batch,
        "predicted": predicted.peak,
        **(asdict(turn) if isinstance(turn, Turn) else {"reason": turn}),
    }


@dataclass(frozen=True)
class Turn:
    """One process: bytes at a time, bytes that a GPU's allocator had taken for them, and seconds of a step."""

    peak: int
    reserved: int | None
    seconds: float


def _turn(config: AnyRunConfig, vocabulary_size: int, num_threads: int) -> Turn | str:
    set_up_cpu(num_threads)
    words = config.trainer.words_per_batch
    if config.trainer.accelerator == "cpu" or not torch.cuda.is_available():
        return _turn_on_cpu(config, vocabulary_size, words)
    try:
        seconds = _take_steps(config, vocabulary_size, words)
    except RuntimeError as error:  # one model that does not run must not end the measuring of others
        return reason_of(error)
    return Turn(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), seconds)


def _turn_on_cpu(config: AnyRunConfig, vocabulary_size: int, words: int) -> Turn:
    if sys.platform != "linux":
        raise UserError("without a GPU, peak memory is measured on Linux only")
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**16)
    with ExitStack() as stack:
        stack.enter_context(as_on_gpu())
        stack.enter_context(at_hand(GpuPart()))
        _take_steps(config, vocabulary_size, words)  # oneDNN keeps what it compiles for each shape, and so on
        gc.collect()
        before = forget_peak()
        seconds = _take_steps(config, vocabulary_size, words)
    return Turn(peak_of_this_process() - before, None, seconds)


def _take_steps(config: AnyRunConfig, vocabulary_size: int, words: int) -> float:
    """Median seconds of one."""
    stepper = Stepper(config, vocabulary_size)
    if stepper.device.type == "cpu":
        imagine_lstms(stepper.module)
    lengths = LENGTHS[stepper.device.type]
    batches = [_drawn(batch_of(config, words, length), vocabulary_size) for length in lengths]
    steps = range(NUM_STEPS[stepper.device.type])
    return statistics.median(stepper.step(batches[step % len(batches)]) for step in steps)


def _drawn(batch: AnyBatch, vocabulary_size: int) -> AnyBatch:
    """The batch with other words."""
    names = [name for name in ("source", "inputs", "targets") if hasattr(batch, name)]
    ids: dict[str, Any] = {name: torch.randint_like(getattr(batch, name), vocabulary_size) for name in names}
    return replace(batch, **ids)
