"""A bank of feed-forward experts as one autograd function: rows sorted by expert in, rows in the same order out.

Left to autograd, a loop over experts builds several nodes for each and stores what each of them needs. Here products
are written straight into their place. Only experts with rows are visited, so that of very many those without cost next
to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from outrageous.moe.factors import GradientFactors, factors_of
from outrageous.moe.grouped import same_dtype
from outrageous.moe.memory import KeptMemory, empty

# Elementwise work is done on blocks of about so many rows: few enough for a block to stay in the cache between a
# product and what follows it, and enough for small experts to share the cost of a call.
ROWS_PER_BLOCK = 512


def feed_forward(
    rows: Tensor,
    weights: Sequence[Tensor],
    rows_per_expert: list[int],
    recompute: bool = False,
    memory: KeptMemory | None = None,
) -> Tensor:
    """W_L ReLU(… ReLU(W_1 rows)), each row with the matrices of its own expert, [S, D] -> [S, D].

    Args:
        rows: [S, D], sorted by expert.
        weights: one [N, out, in] for each layer, two at least.
        rows_per_expert: N numbers of rows.
        recompute: whether hidden activations are not kept for the backward pass but computed there again.
        memory: where activations and gradients are put; None: in memory got afresh.
    """
    return _FeedForward.apply(rows, rows_per_expert, recompute, memory, *weights)


@dataclass(frozen=True)
class _Block:
    """Some experts that have rows, in rising order, their rows, and how many of these each has."""

    experts: list[int]
    rows: slice
    counts: list[int]


@dataclass(frozen=True)
class _Rows:
    """[S, width] where the rows of all blocks are kept, or memory for the largest block, which each uses anew."""

    tensor: Tensor
    kept: bool

    def __getitem__(self, block: _Block) -> Tensor:
        return self.tensor[block.rows] if self.kept else self.tensor[: block.rows.stop - block.rows.start]


class _FeedForward(torch.autograd.Function):
    """Layer l = 0 … L-1 maps inputs[l] to inputs[l + 1]; delta[l] is the gradient of inputs[l], before the ReLU."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        counts: list[int],
        recompute: bool,
        memory: KeptMemory | None,
        *weights: Tensor,
    ) -> Tensor:
        ctx.factors = [factors_of(weight) for weight in weights]  # before autocast makes other tensors of them
        ctx.counts, ctx.recompute, ctx.memory = counts, recompute, memory
        rows, *layers = same_dtype(rows.contiguous(), *weights)
        blocks = _blocks(counts)
        inputs = [_Rows(rows, kept=True)]
        for layer, weight in enumerate(layers[:-1]):
            inputs.append(_empty_rows(memory, f"activations {layer}", rows, weight.shape[1], blocks, not recompute))
        out = empty(memory, "result", rows, len(rows), layers[-1].shape[1])
        for block in blocks:
            last_input = _hidden_layers(block, inputs, layers)
            _linear(block, last_input, layers[-1], out[block.rows])
        ctx.save_for_backward(rows, *layers, *([] if recompute else [x.tensor for x in inputs[1:]]))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        rows, *rest = ctx.saved_tensors
        layers, hidden = rest[: len(ctx.factors)], rest[len(ctx.factors) :]
        blocks = _blocks(ctx.counts)
        collected = [factors is not None for factors in ctx.factors]  # what is collected must outlive its block

        def rows_of(name: str, layer: int, kept: bool) -> _Rows:
            return _empty_rows(ctx.memory, f"{name} {layer}", rows, layers[layer].shape[1], blocks, kept)

        inputs = [_Rows(rows, kept=True), *(_Rows(h, kept=True) for h in hidden)]
        if ctx.recompute:
            inputs += [rows_of("activations", layer, kept) for layer, kept in enumerate(collected[1:])]
        delta = [_Rows(empty(ctx.memory, "gradient of rows", rows, *rows.shape), kept=True)]
        delta += [rows_of("deltas", layer, kept) for layer, kept in enumerate(collected[:-1])]
        delta.append(_Rows(grad_out.contiguous(), kept=True))
        grads = [
            None if skip else _empty_gradient(ctx.memory, f"gradient of weight {layer}", weight, blocks)
            for layer, (weight, skip) in enumerate(zip(layers, collected, strict=True))
        ]
        for block in blocks:
            if ctx.recompute:
                _hidden_layers(block, inputs, layers)
            _deltas(block, inputs, layers, delta)
            for layer, grad in enumerate(grads):
                if grad is not None:
                    _outer(block, delta[layer + 1][block], inputs[layer][block], grad)
        for factors, d, x in zip(ctx.factors, delta[1:], inputs, strict=True):
            if factors is not None:
                factors.append(GradientFactors(d.tensor, x.tensor, ctx.counts))
        return delta[0].tensor, None, None, None, *grads


def _blocks(counts: list[int]) -> list[_Block]:
    """Together all experts that have rows."""
    blocks: list[_Block] = []
    experts: list[int] = []
    first_row, row = 0, 0
    for expert, count in enumerate(counts):
        if count:
            experts.append(expert)
            row += count
            if row - first_row >= ROWS_PER_BLOCK:
                blocks.append(_Block(experts, slice(first_row, row), [counts[e] for e in experts]))
                experts, first_row = [], row
    if experts:
        blocks.append(_Block(experts, slice(first_row, row), [counts[e] for e in experts]))
    return blocks


def _empty_gradient(memory: KeptMemory | None, purpose: str, weight: Tensor, blocks: list[_Block]) -> Tensor:
    """[N, out, in], uninitialised but for the experts that have no rows: theirs are zeros."""
    grad = empty(memory, purpose, weight, *weight.shape)
    first = 0
    for expert in [*(expert for block in blocks for expert in block.experts), len(weight)]:
        if expert > first:
            grad[first:expert].zero_()
        first = expert + 1
    return grad


def _empty_rows(
    memory: KeptMemory | None, purpose: str, like: Tensor, width: int, blocks: list[_Block], kept: bool
) -> _Rows:
    num_rows = len(like) if kept else max((block.rows.stop - block.rows.start for block in blocks), default=0)
    return _Rows(empty(memory, purpose, like, num_rows, width), kept)


def _hidden_layers(block: _Block, inputs: list[_Rows], layers: Sequence[Tensor]) -> Tensor:
    """Fills the block's rows of inputs[1], … from those of inputs[0]; returns those of the last."""
    x = inputs[0][block]
    for weight, out in zip(layers, inputs[1:], strict=False):
        x = _linear(block, x, weight, out[block]).relu_()
    return x


def _deltas(block: _Block, inputs: list[_Rows], layers: Sequence[Tensor], delta: list[_Rows]) -> None:
    """Fills the block's rows of every delta from those of the last."""
    d = delta[-1][block]
    for layer in range(len(layers) - 1, -1, -1):
        d = _back(block, d, layers[layer], delta[layer][block])
        if layer:
            torch.ops.aten.threshold_backward.grad_input(d, inputs[layer][block], 0, grad_input=d)  # ReLU


def _linear(block: _Block, x: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """out = x Wᵀ for each of the block's experts, W of weight [N, out, in]."""
    for expert, x_e, out_e in zip(block.experts, x.split(block.counts), out.split(block.counts), strict=True):
        torch.mm(x_e, weight[expert].t(), out=out_e)
    return out


def _back(block: _Block, d: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """out = d W for each of the block's experts."""
    for expert, d_e, out_e in zip(block.experts, d.split(block.counts), out.split(block.counts), strict=True):
        torch.mm(d_e, weight[expert], out=out_e)
    return out


def _outer(block: _Block, d: Tensor, x: Tensor, out: Tensor) -> None:
    """out [N, out, in] = dᵀ x for each of the block's experts."""
    for expert, d_e, x_e in zip(block.experts, d.split(block.counts), x.split(block.counts), strict=True):
        torch.mm(d_e.t(), x_e, out=out[expert])
