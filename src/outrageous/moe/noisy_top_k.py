"""Noisy top-k gating (Eq. 3-5) and the probabilities behind its estimate of the load (appendix A, Eq. 8-9).

The gradient is written out, and everything is computed block by block of tokens. Where experts are many and small,
gating is a large part of the layer's cost, and nearly all of that is memory: left to autograd it takes some twenty
tensors [T, N], got afresh and read from far away. Here only the logits are kept for the backward pass, and what follows
from them is computed there again, which takes less time than to fetch it.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from outrageous.moe.device import on_gpu
from outrageous.moe.part import part_at_hand

# Softplus underflows to 0 for logits below about -100, and 0/0 is NaN. A standard deviation this small changes no
# probability, since differences between float32 logits are many orders of magnitude larger or exactly zero.
SMALLEST_NOISE = 1e-10
# So many standard deviations away, the normal distribution and its density are 0 (or 1) exactly; 0·∞ would be NaN.
FARTHEST = 40.0
# On a CPU, of a block [tokens, N]: the five or so that are in use at a time stay in the cache.
ELEMENTS_PER_BLOCK = 2**16


def noisy_top_k(logits: Tensor, k: int, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """
    Args:
        logits: [T, 2N], x·W_g and x·W_noise side by side.
        k: experts to choose.
        training: whether to draw noise; else it is zero.

    Returns:
        the chosen experts [T, k], their gate values [T, k], and [T, N] P(x, i), the probability that expert i is among
        the k best when only its own noise is drawn again.
    """
    chosen, kept, probability = _NoisyTopK.apply(logits, k, training)
    return chosen, kept.softmax(dim=1), probability  # Eq. 3


class _NoisyTopK(torch.autograd.Function):
    """As `noisy_top_k`, but with the chosen experts' noisy logits for their gate values.

    Of each token's k + 1 best experts, by their noisy logits, the next best one decides P of the k chosen; the k-th, P
    of all others.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, k: int, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        like = logits.chunk(2, dim=1)[0]
        noise = part_at_hand().normal(like) if training else torch.zeros_like(like)
        best = torch.empty(len(logits), k + 1, dtype=torch.int64, device=logits.device)
        noisy_of_best, noise_of_best = logits.new_empty(2, len(logits), k + 1)
        for block in _blocks(logits):
            clean, noise_logits = logits[block].chunk(2, dim=1)
            std = _std(noise_logits)
            noisy = torch.addcmul(clean, noise[block], std)  # Eq. 4
            noisy_of_best[block, :k], best[block, :k] = noisy.topk(k, dim=1)  # Eq. 5
            # With k = N there is no next best one: -∞, and P = 1.
            noisy_of_best[block, k:], best[block, k:] = noisy.scatter_(1, best[block, :k], -torch.inf).max(1, True)
            torch.gather(noise[block], 1, best[block], out=noise_of_best[block])
            z = _z(clean, std, noisy_of_best[block], best[block])
            torch.mul(z, math.sqrt(1 / 2), out=noise[block]).erf_().add_(1).mul_(1 / 2)  # Φ(z), Eq. 9
        ctx.save_for_backward(logits, best, noisy_of_best, noise_of_best)
        chosen = best[:, :k].contiguous()
        ctx.mark_non_differentiable(chosen)
        return chosen, noisy_of_best[:, :k].contiguous(), noise

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None, by_kept: Tensor, by_probability: Tensor) -> tuple[Tensor, None, None]:
        logits, best, noisy_of_best, noise_of_best = ctx.saved_tensors
        by_logits = torch.empty_like(logits)
        for block in _blocks(logits):
            clean, noise_logits = logits[block].chunk(2, dim=1)
            by_clean, by_noise_logits = by_logits[block].chunk(2, dim=1)
            std = _std(noise_logits)
            z = _z(clean, std, noisy_of_best[block], best[block])
            torch.mul(z, z, out=by_clean).mul_(-1 / 2).exp_().mul_(1 / math.sqrt(2 * math.pi))  # Φ'(z)
            by_clean.mul_(by_probability[block]).div_(std)
            by_std = z.mul_(by_clean).neg_()
            # By the thresholds, which are noisy logits.
            chosen = best[block, :-1]
            of_chosen = by_clean.gather(1, chosen)
            of_others = by_clean.scatter_(1, chosen, 0).sum(dim=1)
            by_clean.scatter_(1, chosen, of_chosen)
            by_noisy = torch.cat([by_kept[block], -of_chosen.sum(dim=1, keepdim=True)], dim=1)
            by_noisy[:, -2] -= of_others
            by_clean.scatter_add_(1, best[block], by_noisy)
            by_std.scatter_add_(1, best[block], by_noisy * noise_of_best[block])
            torch.sigmoid(noise_logits, out=by_noise_logits).mul_(by_std)
        return by_logits, None, None


def _blocks(logits: Tensor) -> Iterator[slice]:
    """Of tokens; on a GPU all at once."""
    tokens_per_block = max(1, len(logits) if on_gpu(logits) else 2 * ELEMENTS_PER_BLOCK // logits.shape[1])
    return (slice(first, first + tokens_per_block) for first in range(0, len(logits), tokens_per_block))


def _std(noise_logits: Tensor) -> Tensor:
    """Of the noise (Eq. 4)."""
    return F.threshold(F.softplus(noise_logits), SMALLEST_NOISE, SMALLEST_NOISE, inplace=True)


def _z(clean: Tensor, std: Tensor, noisy_of_best: Tensor, best: Tensor) -> Tensor:
    """clean, std [T, N], of the k + 1 best their noisy logits and indices [T, k + 1] -> [T, N], what Φ is of in Eq. 9.

    kth_excluding(H(x), k, i), the k-th largest noisy logit without entry i, is the (k+1)-th of all where i is itself
    among the top k, and the k-th elsewhere. By index rather than by comparison, so that ties are exact.
    """
    chosen = best[:, :-1]
    z = clean - noisy_of_best[:, -2:-1]
    z.scatter_(1, chosen, clean.gather(1, chosen) - noisy_of_best[:, -1:])
    return z.div_(std).clamp_(-FARTHEST, FARTHEST)
