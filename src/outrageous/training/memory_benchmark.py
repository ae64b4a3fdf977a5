"""What each memory saving of appendix D saves and costs, in training one MoE layer."""

import multiprocessing
import statistics
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from tqdm import tqdm

from outrageous.config import ExpertOptimizer, OptimizerConfig
from outrageous.moe import FeedForwardExperts
from outrageous.optim.build import build_optimizer
from outrageous.training.contestants import LEARNING_RATE, LayerSize, TrainedLayer, flat
from outrageous.training.libraries import set_up_cpu
from outrageous.training.peak_memory import peak_of_this_process

NUM_STEPS = 3  # of each turn that count; one before them gets memory that they find there


@dataclass(frozen=True)
class Turn:
    """One process: seconds of each step, and bytes for each expert parameter."""

    seconds: list[float]
    weights: float
    gradients: float
    state: float
    peak: float


def measure_savings(size: LayerSize, num_rounds: int, num_threads: int) -> dict[str, Any]:
    """Of Adam, factored Adam and factored Adam without gradients for the experts, each with and without recomputation:
    median seconds of a step, and bytes for each expert parameter: of weights, gradients and the optimizer's state,
    counted after a step, and the most at a time that the process grew by, measured, all else in training the layer
    included.

    In each round all take turns, every turn in a process of its own.
    """
    variants = list(product(ExpertOptimizer, (False, True)))
    turns: dict[tuple[ExpertOptimizer, bool], list[Turn]] = {variant: [] for variant in variants}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo"])  # once, what takes seconds
    with tqdm([variant for _ in range(num_rounds) for variant in variants], "memory savings", disable=None) as progress:
        for variant in progress:
            with context.Pool(1) as pool:
                turns[variant].append(pool.apply(_turn, (size, *variant, num_threads)))
    rows = [
        {
            "optimizer": optimizer.value,
            "recompute": recompute,
            "weights": ours[0].weights,
            "gradients": ours[0].gradients,
            "state": ours[0].state,
            "peak": statistics.median(turn.peak for turn in ours),
            "seconds": statistics.median(seconds for turn in ours for seconds in turn.seconds),
        }
        for (optimizer, recompute), ours in turns.items()
    ]
    return {**asdict(size), "num_rounds": num_rounds, "num_steps": NUM_STEPS, "rows": rows}


def _turn(size: LayerSize, experts: ExpertOptimizer, recompute: bool, num_threads: int) -> Turn:
    set_up_cpu(num_threads)
    torch.manual_seed(0)
    before = peak_of_this_process()
    module = flat(size, recompute=recompute)
    config = OptimizerConfig(LEARNING_RATE, beta1=0.9, beta2=0.999, epsilon=1e-8, max_grad_norm=None, experts=experts)
    optimizer = build_optimizer(module, config)
    layer = TrainedLayer(module, optimizer, size)
    seconds = [layer.run().step for _ in range(1 + NUM_STEPS)][1:]
    peak = peak_of_this_process() - before
    (bank,) = [part for part in module.modules() if isinstance(part, FeedForwardExperts)]
    weights = list(bank.parameters())
    num_parameters = sum(weight.numel() for weight in weights)
    return Turn(
        seconds=seconds,
        weights=sum(weight.nbytes for weight in weights) / num_parameters,
        gradients=sum(weight.grad.nbytes for weight in weights if weight.grad is not None) / num_parameters,
        state=sum(tensor.nbytes for weight in weights for tensor in optimizer.state[weight].values()) / num_parameters,
        peak=peak / num_parameters,
    )
