"""Banks of N experts, which map rows sorted by expert: `(rows [S, D], routing) -> (rows [S, D], report)`."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from outrageous.moe.device import on_gpu
from outrageous.moe.factors import factors_of
from outrageous.moe.feed_forward import feed_forward
from outrageous.moe.grouped import GroupSizes, grouped_linear
from outrageous.moe.kept import draw, kept
from outrageous.moe.memory import KeptMemory
from outrageous.moe.routing import MoEReport, Routing


class FeedForwardExperts(nn.Module):
    """N feed-forward networks `D → H → … → H → D` with ReLU between, and no biases (§3.2; the paper's parameter counts
    only come out right without them).

    Each weight is held as [N, width out, width in], the layout of `nn.Linear`. The paper does not name its
    initialisation; ours keeps the size of the activations through any number of layers (He et al., 2015): uniform with
    variance 2/width_in before a ReLU, and 1/width_in in the last layer.
    """

    def __init__(
        self,
        num_experts: int,
        d_model: int,
        d_hidden: int | Sequence[int],
        recompute: bool = False,
        keep_memory: bool = True,
    ) -> None:
        """
        Args:
            d_hidden: width of the hidden layer, or of each of several.
            recompute: keep no hidden activations for the backward pass but compute them there again (appendix D).
            keep_memory: on a CPU, put rows, activations and gradients of each step where those of the step before were,
                rather than give that memory back and get it afresh, which takes longer than many a product does
                (`KeptMemory`). Between steps the layer then holds as much memory as its largest step used.

        Raises:
            ValueError: a size is not positive.
        """
        super().__init__()
        hidden = [d_hidden] if isinstance(d_hidden, int) else list(d_hidden)
        if num_experts < 1 or d_model < 1 or not hidden or min(hidden) < 1:
            raise ValueError(f"{num_experts=}, {d_model=}, {d_hidden=}: all sizes must be at least 1")
        self.num_experts, self.d_model, self.d_hidden = num_experts, d_model, tuple(hidden)
        self.recompute = recompute
        self.memory = KeptMemory() if keep_memory else None
        widths = [d_model, *hidden, d_model]
        here = kept(num_experts)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(here.stop - here.start, out, in_)) for in_, out in pairwise(widths)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for index, weight in enumerate(self.weights):
            gain = 1 if index == len(self.weights) - 1 else 2
            bound = (3 * gain / weight.shape[2]) ** 0.5  # U(-b, b) has variance b²/3
            draw(weight.detach(), self.num_experts, partial(nn.init.uniform_, a=-bound, b=bound))

    def forward(self, rows: Tensor, routing: Routing) -> tuple[Tensor, MoEReport]:
        """rows [S, D] sorted by expert as `routing` says -> [S, D] in the same order."""
        run = self._on_gpu if on_gpu(rows) else self._on_cpu
        return run(rows, routing), routing.report()

    def _on_cpu(self, rows: Tensor, routing: Routing) -> Tensor:
        rows_per_expert = routing.tokens_per_expert.tolist()
        return feed_forward(rows, list(self.weights), rows_per_expert, self.recompute, self.memory)

    def _on_gpu(self, rows: Tensor, routing: Routing) -> Tensor:
        if any(factors_of(weight) is not None for weight in self.weights):
            raise ValueError("factors of gradients are collected on a CPU only: use an optimizer that takes gradients")
        sizes = GroupSizes(routing.tokens_per_expert, len(rows))
        if self.recompute:
            # Nothing is drawn at random, and to keep a GPU's generator as it is would be to wait for it.
            return checkpoint(_layers, rows, sizes, *self.weights, use_reentrant=False, preserve_rng_state=False)
        return _layers(rows, sizes, *self.weights)

    def extra_repr(self) -> str:
        return f"num_experts={self.num_experts}, d_model={self.d_model}, d_hidden={self.d_hidden}"


def _layers(rows: Tensor, sizes: GroupSizes, *weights: Tensor) -> Tensor:
    """rows [S, D] -> [S, D], as a GPU computes it: layer by layer, all experts at once."""
    for weight in weights[:-1]:
        rows = _ReLU.apply(grouped_linear(rows, weight, sizes))
    return grouped_linear(rows, weights[-1], sizes)


class _ReLU(torch.autograd.Function):
    """Its gradient takes the place of the one that comes in, which nobody else has: hidden activations are the widest
    rows there are, and of these only two are in memory at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.relu()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        changed: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad)
        return changed
