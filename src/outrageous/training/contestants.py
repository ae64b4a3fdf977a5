"""What the layer benchmark sets against each other: our layer, what bounds it, and the layers of other packages.

All of one size read their weights from the same memory, so that even the largest fit beside their optimizers' state.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from outrageous.moe import FeedForwardExperts, Mixtures, MoE, NoisyTopKGate, NoisyTopKGates, balancing_loss
from outrageous.optim.combined import CombinedOptimizer
from outrageous.optim.gradient_free import GradientFreeFactoredAdam

LEARNING_RATE = 1e-6  # the weights are shared and must stay what they are, near enough


@dataclass(frozen=True)
class LayerSize:
    """Of an MoE layer and its batch; names as in `outrageous.moe`."""

    num_experts: int
    num_tokens: int
    d_model: int
    d_hidden: int
    k: int


@dataclass(frozen=True)
class Seconds:
    """Of one training step: `forward_backward`, which drops the last step's gradients first, and the whole `step`."""

    forward_backward: float
    step: float


class Contestant(ABC):
    """One layer, ready to run."""

    @abstractmethod
    def run(self) -> Seconds:
        """Takes one training step."""


class TrainedLayer(Contestant):
    """A module x [T, D] -> (y, losses) and its optimizer, if it is to have one, on noise."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer | None, size: LayerSize) -> None:
        self.module, self.optimizer = module, optimizer
        self.x = torch.randn(size.num_tokens, size.d_model, requires_grad=True)
        self.grad_y: Tensor | None = None  # as large as y turns out to be

    def run(self) -> Seconds:
        """The products of one step, forward and backward."""
        start = time.perf_counter()
        (self.optimizer or self.module).zero_grad()
        self.x.grad = None
        y, losses = self.module(self.x)
        if self.grad_y is None:
            self.grad_y = torch.randn_like(y)
        torch.autograd.backward([y, *losses], [self.grad_y, *(torch.ones_like(loss) for loss in losses)])
        middle = time.perf_counter()
        if self.optimizer is not None:
            self.optimizer.step()
        return Seconds(middle - start, time.perf_counter() - start)


class BareProducts(Contestant):
    """The matrix products of the experts, and of the gate too if asked for, into memory got beforehand: no layer that
    computes the same can be faster. Twice backward for once forward: by the rows, and by the weights."""

    def __init__(self, size: LayerSize, weights: Tensor, gate: bool) -> None:
        num_rows, d, h = size.num_tokens * size.k, size.d_model, size.d_hidden
        expert = torch.randint(size.num_experts, (num_rows,))
        self.counts = torch.bincount(expert, minlength=size.num_experts).tolist()
        self.rows, self.hidden = torch.randn(num_rows, d), torch.randn(num_rows, h)
        self.out, self.grad_hidden = torch.empty(num_rows, d), torch.empty(num_rows, h)
        half = size.num_experts * d * h
        self.w_in, self.w_out = weights[:half].view(-1, h, d), weights[half : 2 * half].view(-1, d, h)
        self.grad_in, self.grad_out = torch.empty_like(self.w_in), torch.empty_like(self.w_out)
        self.gate = torch.randn(2, d, size.num_experts) if gate else torch.empty(0, d, size.num_experts)
        self.logits = torch.empty(size.num_tokens, size.num_experts)

    def run(self) -> Seconds:
        start = time.perf_counter()
        tensors = (self.rows, self.hidden, self.out, self.grad_hidden)
        parts = [tensor.split(self.counts) for tensor in tensors]
        weights = [tensor.unbind(0) for tensor in (self.w_in, self.w_out, self.grad_in, self.grad_out)]
        for x, h, y, _, w_in, w_out, _, _ in zip(*parts, *weights, strict=True):
            torch.mm(x, w_in.t(), out=h)
            torch.mm(h, w_out.t(), out=y)
        for x, h, y, dh, w_in, w_out, dw_in, dw_out in zip(*parts, *weights, strict=True):
            torch.mm(x, w_out, out=dh)  # x as the gradient of y: it is of the same shape
            torch.mm(x.t(), h, out=dw_out)
            torch.mm(dh.t(), x, out=dw_in)
            torch.mm(dh, w_in, out=y)
        tokens, grad_tokens = self.rows[: len(self.logits)], self.out[: len(self.logits)]
        for matrix in self.gate:
            torch.mm(tokens, matrix, out=self.logits)
            torch.mm(self.logits, matrix.t(), out=grad_tokens)
            torch.mm(tokens.t(), self.logits)
        seconds = time.perf_counter() - start
        return Seconds(seconds, seconds)


class WithLosses(nn.Module):
    """Our layer, with the losses that it is trained with."""

    def __init__(self, layer: MoE) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        y, report = self.layer(x)
        return y, [balancing_loss(report, w_importance=0.1, w_load=0.1)]


class Dense(nn.Module):
    """As many multiply-adds for each token as k experts."""

    def __init__(self, size: LayerSize) -> None:
        super().__init__()
        widths = (size.d_model, size.k * size.d_hidden, size.d_model)
        first, second = (nn.Linear(*pair, bias=False) for pair in pairwise(widths))
        self.layers = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.layers(x), []


def flat(size: LayerSize, recompute: bool = False, keep_memory: bool = True) -> nn.Module:
    """Our layer with noisy top-k gating among all experts."""
    experts = FeedForwardExperts(size.num_experts, size.d_model, size.d_hidden, recompute, keep_memory)
    return WithLosses(MoE(NoisyTopKGate(size.d_model, size.num_experts, size.k), experts))


def hierarchical(size: LayerSize) -> nn.Module:
    """Our layer with A groups, A the divisor of N next below √N, and √k groups a token and experts a group."""
    num_groups, k = groups_and_k(size)
    experts = FeedForwardExperts(size.num_experts, size.d_model, size.d_hidden)
    gates = NoisyTopKGates(num_groups, size.d_model, size.num_experts // num_groups, k)
    return WithLosses(MoE(NoisyTopKGate(size.d_model, num_groups, k), Mixtures(gates, experts)))


def groups_and_k(size: LayerSize) -> tuple[int, int]:
    """A, and the k of both levels; k² is the size's k. Raises ValueError where k is no square."""
    k = round(size.k**0.5)
    if k * k != size.k:
        raise ValueError(f"k={size.k}: a hierarchy of two equal levels needs a square, such as 4")
    return max(a for a in range(1, size.num_experts + 1) if a * a <= size.num_experts and size.num_experts % a == 0), k


def from_shared_memory(build: Callable[[], nn.Module], weights: Tensor) -> nn.Module:
    """The module with the values of `weights` [any number] for parameters, in place of what it would draw."""
    with torch.device("meta"):
        module = build()
    state, used = {}, 0
    for name, tensor in module.state_dict().items():
        if used + tensor.numel() > len(weights):
            used = 0  # small ones may share values with others
        state[name] = weights[used : used + tensor.numel()].view(tensor.shape)
        used += tensor.numel()
    module.load_state_dict(state, assign=True)
    return module


def adam(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, fused=True)


def gradient_free(module: nn.Module) -> torch.optim.Optimizer:
    """Factored Adam without gradients for the experts, Adam for the rest."""
    experts = {weight for part in module.modules() if isinstance(part, FeedForwardExperts) for weight in part.weights}
    rest = [parameter for parameter in module.parameters() if parameter not in experts]
    return CombinedOptimizer(
        torch.optim.Adam(rest, lr=LEARNING_RATE, fused=True),
        GradientFreeFactoredAdam(list(experts), lr=LEARNING_RATE),
    )
