"""Speed and memory of one MoE layer beside what bounds it and beside the layers of other packages."""

import gc
import resource
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from outrageous.training.contestants import (
    BareProducts,
    Contestant,
    Dense,
    LayerSize,
    Seconds,
    TrainedLayer,
    adam,
    flat,
    from_shared_memory,
    gradient_free,
)
from outrageous.training.peak_memory import peak_memory
from outrageous.training.peers import PEERS

PRODUCTS, ALL_PRODUCTS = "products of the experts", "products of the experts and the gate"
OURS: dict[str, Callable[[LayerSize], nn.Module]] = {
    "outrageous": flat,
    "outrageous, memory got afresh": partial(flat, keep_memory=False),
}
GRADIENT_FREE = "outrageous, no weight gradients"
DOES_NOT_FIT = "does not fit into memory"
ONCE_ABOVE = 5.0  # seconds of a step: what takes longer, and is far from being the fastest, takes part in one round

# A contestant, from its size and the memory that all share for their weights.
Builder = Callable[[LayerSize, Tensor], Contestant]


def measure_layer(size: LayerSize, num_rounds: int) -> dict[str, Any]:
    """Of every contestant at one size: median seconds of forward + backward, and of whole steps.

    In each round every contestant in turn is built, takes one step that does not count and one that does. So whatever
    else the machine does meets all alike, and no two are in memory at once. What takes long takes part in one round.
    """
    builders = _builders()
    weights = torch.empty(2 * size.num_experts * size.d_model * size.d_hidden).uniform_(-0.03, 0.03)
    seconds: dict[str, list[Seconds]] = {name: [] for name in builders}
    notes = {peer.name: peer.differs for peer in PEERS}
    turns = [(name, build) for _ in range(num_rounds) for name, build in builders.items()]
    title = f"N = {size.num_experts}, T = {size.num_tokens}"
    with _memory_limit(), tqdm(turns, title, disable=None) as progress:
        for name, build in progress:
            progress.set_postfix_str(name)
            if notes.get(name) == DOES_NOT_FIT or any(passed.step > ONCE_ABOVE for passed in seconds[name]):
                continue
            try:
                seconds[name].append(_second_step(build, size, weights))
            except (MemoryError, OSError, RuntimeError) as error:
                _check_memory(error)
                notes[name] = DOES_NOT_FIT
    results = [_summary(name, seconds[name], notes.get(name)) for name in builders]
    return {**asdict(size), "num_rounds": num_rounds, "contestants": results}


def measure_peaks(size: LayerSize) -> dict[str, int | None]:
    """Peak resident bytes of a process that trains our layer for three steps, by optimizer; None: does not fit."""
    trainings = {
        "Adam": _train_with_adam,
        "factored Adam without weight gradients, recomputation": _train_without_gradients,
    }
    peaks: dict[str, int | None] = {}
    for optimizer, train in tqdm(trainings.items(), f"N = {size.num_experts}, peak memory", disable=None):
        try:
            peaks[optimizer] = peak_memory(train, size)
        except (MemoryError, OSError, RuntimeError) as error:
            _check_memory(error)
            peaks[optimizer] = None
    return peaks


def _builders() -> dict[str, Builder]:
    modules: dict[str, Callable[[LayerSize], nn.Module]] = {"dense layer": Dense, **OURS}
    modules |= {peer.name: peer.module for peer in PEERS if peer.is_installed()}

    def trained(
        size: LayerSize, weights: Tensor, build: Callable[[LayerSize], nn.Module], optimizer: Callable[..., Optimizer]
    ) -> Contestant:
        module = from_shared_memory(lambda: build(size), weights)
        return TrainedLayer(module, optimizer(module), size)

    return {
        PRODUCTS: partial(BareProducts, gate=False),
        ALL_PRODUCTS: partial(BareProducts, gate=True),
        **{name: partial(trained, build=module, optimizer=adam) for name, module in modules.items()},
        GRADIENT_FREE: partial(trained, build=flat, optimizer=gradient_free),
    }


def _second_step(build: Builder, size: LayerSize, weights: Tensor) -> Seconds:
    """The first one gets memory that later ones find there."""
    contestant = build(size, weights)
    contestant.run()
    seconds = contestant.run()
    del contestant
    gc.collect()
    return seconds


def _check_memory(error: Exception) -> None:
    """Raises it again, unless there was not enough memory."""
    if not isinstance(error, MemoryError) and "allocate" not in str(error):
        raise error


def _summary(name: str, seconds: list[Seconds], note: str | None) -> dict[str, Any]:
    bare = name in (PRODUCTS, ALL_PRODUCTS)
    return {
        "name": name,
        "note": note,
        "forward_backward": statistics.median(s.forward_backward for s in seconds) if seconds else None,
        "step": statistics.median(s.step for s in seconds) if seconds and not bare else None,
    }


@contextmanager
def _memory_limit(meminfo: Path = Path("/proc/meminfo")) -> Iterator[None]:
    """Has allocations fail that exceed the memory there is, on Linux, before the system ends the process for them."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) * 1024
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + available * 19 // 20, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _train_with_adam(size: LayerSize) -> None:
    with _memory_limit():
        module = flat(size)
        _take_steps(TrainedLayer(module, adam(module), size))


def _train_without_gradients(size: LayerSize) -> None:
    with _memory_limit():
        module = flat(size, recompute=True)
        _take_steps(TrainedLayer(module, gradient_free(module), size))


def _take_steps(contestant: Contestant, num_steps: int = 3) -> None:
    for _ in range(num_steps):
        contestant.run()
