"""A bank of experts alone, without gate and without rows going to and fro: how near its products come to a device's
rate for large square matrices, by the rows that each expert gets."""

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from outrageous.moe import FeedForwardExperts, Routing
from outrageous.moe.routing import route
from outrageous.training.device_memory import reason_of
from outrageous.training.step_benchmark import dense_flops

NUM_PASSES = {"cpu": 1, "cuda": 10}  # which follow each other, as in training; a GPU is waited for at their end alone


@dataclass(frozen=True)
class BankSize:
    """Names as in `outrageous.moe`; rows_per_expert on average."""

    num_experts: int
    rows_per_expert: int
    d_model: int
    d_hidden: int

    @property
    def flops(self) -> int:
        """Of a forward and a backward pass: each of an expert's products once forward, twice backward."""
        return 2 * 3 * 2 * self.num_experts * self.rows_per_expert * self.d_model * self.d_hidden


@dataclass(frozen=True)
class Precision:
    """dtype: of the weights; under autocast, products are in bfloat16 whatever it is, as with trainer=gpu."""

    name: str
    dtype: torch.dtype
    autocast: bool = False

    @property
    def of_products(self) -> torch.dtype:
        return torch.bfloat16 if self.autocast else self.dtype


ON_CPU = [Precision("float32", torch.float32)]
ON_GPU = [
    Precision("bfloat16", torch.bfloat16),
    Precision("bfloat16, of float32 weights", torch.float32, autocast=True),  # rounded in each step
]


def measure_products(sizes: list[BankSize], num_rounds: int) -> Iterator[dict[str, Any]]:
    """After each size the figures so far: a row for each size and precision, of medians over rounds, in each of which
    the bank's passes follow upon products of square matrices. A size that does not run is a row with the reason."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precisions = ON_GPU if device.type == "cuda" else ON_CPU
    rows: list[dict[str, Any]] = []
    cases = list(itertools.product(sizes, precisions))
    for size, precision in tqdm(cases, "products", disable=None):
        row = {**asdict(size), "precision": precision.name}
        try:
            rows.append(row | _measured(size, precision, device, num_rounds))
        except RuntimeError as error:  # one size that does not run must not end the measuring of others
            rows.append(row | {"reason": reason_of(error)})
        gc.collect()
        yield {"num_rounds": num_rounds, "num_passes": NUM_PASSES[device.type], "rows": rows}


def _measured(size: BankSize, precision: Precision, device: torch.device, num_rounds: int) -> dict[str, float]:
    run = _passes(size, precision, device)
    run()  # which gets memory that those after it find there
    seconds, dense = [], []
    for _ in range(num_rounds):
        dense.append(dense_flops(device, precision.of_products))
        start = time.perf_counter()
        for _ in range(NUM_PASSES[device.type]):
            last = run()
        last.flatten()[0].item()  # waits
        seconds.append((time.perf_counter() - start) / NUM_PASSES[device.type])
    tflops, dense_tflops = size.flops / statistics.median(seconds) / 1e12, statistics.median(dense) / 1e12
    return {
        "seconds": statistics.median(seconds),
        "tflops": tflops,
        "dense_tflops": dense_tflops,
        "share_of_dense": tflops / dense_tflops,
    }


def _passes(size: BankSize, precision: Precision, device: torch.device) -> Callable[[], Tensor]:
    """A forward and a backward pass, which return the rows' gradient, the last thing computed."""
    num_rows = size.num_experts * size.rows_per_expert
    with device:
        experts = FeedForwardExperts(size.num_experts, size.d_model, size.d_hidden).to(precision.dtype)
    routing = _at_random(num_rows, size.num_experts, device)
    rows, grad = torch.randn(2, num_rows, size.d_model, dtype=precision.of_products, device=device)
    rows.requires_grad_()

    def run() -> Tensor:
        experts.zero_grad()
        rows.grad = None
        with torch.autocast(device.type, torch.bfloat16, enabled=precision.autocast):
            out, _ = experts(rows, routing)
        out.backward(grad)
        assert rows.grad is not None
        return rows.grad

    return run


def _at_random(num_rows: int, num_experts: int, device: torch.device) -> Routing:
    """Each row to any expert: so their numbers of rows differ, as in training, and most are no multiples of a tile."""
    expert = torch.randint(num_experts, (num_rows,), device=device)
    token, weight = torch.arange(num_rows, device=device), torch.ones(num_rows, device=device)
    return route(token, expert, weight, load=weight.new_zeros(num_experts))
