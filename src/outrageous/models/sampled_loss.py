"""The sum of cross-entropies over true and sampled classes, chunk after chunk of tokens.

Axes: T tokens, C tokens of a chunk, D d_model, S sampled classes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from outrageous.moe.device import on_gpu
from outrageous.moe.grouped import same_dtype, without_autocast

# How many logits there are at a time: on a CPU as many as its cache holds, on a GPU half a gigabyte in float32, and as
# much again of log-probabilities.
LOGITS_ON_CPU, LOGITS_ON_GPU = 2**18, 2**27


def sum_of_losses(
    hidden: Tensor, true_logit: Tensor, is_hit: Tensor, place: Tensor, of_sample: Tensor, offset: Tensor
) -> Tensor:
    """Σ over tokens of log(exp(true) + Σ_s exp(hidden·of_sample_s + offset_s)) - true, in float32 at least.

    What autograd would do with it is to write and read each logit some twenty times, and to compute it twice, where
    they do not fit into memory at once. Here a chunk's gradients are computed where its logits are at hand, in the
    forward pass: the sum's own gradient is a factor that they all have in common.

    Args:
        hidden: [T, D].
        true_logit: [T], of the token's own class.
        is_hit: [T] bool, whether that is among the sampled classes, where it does not count.
        place: [T] int64, in which place it is there; any, where it is not.
        of_sample: [S, D].
        offset: [S], which logits of sampled classes are shifted by.
    """
    total: Tensor = _SumOfLosses.apply(hidden, true_logit, is_hit, place, of_sample, offset)
    return total


class _SumOfLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, true_logit: Tensor, is_hit: Tensor, place: Tensor, of_sample: Tensor, offset: Tensor
    ) -> Tensor:
        rows, classes = same_dtype(hidden, of_sample)
        total, of_true, of_rows = true_logit.new_zeros(()), torch.empty_like(true_logit), torch.empty_like(rows)
        of_offset = torch.zeros_like(offset)
        of_classes = torch.zeros_like(classes, dtype=offset.dtype)  # not in bfloat16: every chunk adds to it
        tensors = (rows, true_logit, is_hit, place, of_rows, of_true)
        size = max(1, (LOGITS_ON_GPU if on_gpu(hidden) else LOGITS_ON_CPU) // len(classes))
        with without_autocast(hidden):
            for chunk in zip(*(tensor.split(size) for tensor in tensors), strict=True):
                total += _add_chunk(chunk, classes, offset, of_classes, of_offset)
        ctx.save_for_backward(of_rows, of_true, of_classes, of_offset)
        ctx.dtypes = hidden.dtype, true_logit.dtype, of_sample.dtype, offset.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_true, of_sample, of_offset = (
            gradient.to(dtype) * grad_total for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return of_hidden, of_true, None, None, of_sample, of_offset


def _add_chunk(
    chunk: tuple[Tensor, ...], of_sample: Tensor, offset: Tensor, grad_of_sample: Tensor, grad_of_offset: Tensor
) -> Tensor:
    """Sum of the losses of C tokens. chunk: of these what `sum_of_losses` takes of tokens, and where the gradients of
    hidden and true_logit are written; those of what all tokens share are added to."""
    hidden, true_logit, is_hit, place, of_hidden, of_true = chunk
    log_p = _log_probabilities(hidden, true_logit, is_hit, place, of_sample, offset)
    torch.expm1(log_p[:, 0], out=of_true)  # p - 1
    p = torch.exp(log_p[:, 1:], out=hidden.new_empty(len(hidden), len(of_sample)))
    grad_of_offset += p.sum(dim=0, dtype=offset.dtype)
    torch.mm(p, of_sample, out=of_hidden)
    if p.dtype == grad_of_sample.dtype:
        grad_of_sample.addmm_(p.t(), hidden)
    else:
        grad_of_sample += p.t() @ hidden
    return -log_p[:, 0].sum()


def _log_probabilities(
    hidden: Tensor, true_logit: Tensor, is_hit: Tensor, place: Tensor, of_sample: Tensor, offset: Tensor
) -> Tensor:
    """Of C tokens, as in `sum_of_losses` -> [C, 1 + S], the true class's first."""
    logits = true_logit.new_empty(len(hidden), 1 + len(of_sample))
    logits[:, 0] = true_logit
    # log Q spans many times what it must be exact to: it is subtracted after a product in bfloat16, not within.
    torch.add(hidden @ of_sample.t(), offset, out=logits[:, 1:])
    without_hits = torch.zeros_like(true_logit).masked_fill(is_hit, -torch.inf)
    logits.scatter_add_(1, 1 + place.unsqueeze(1), without_hits.unsqueeze(1))
    return logits.log_softmax(dim=1)
