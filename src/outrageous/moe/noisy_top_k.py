"""Noisy top-k gating (Eq. 3-5) and the probabilities behind its estimate of the load (appendix A, Eq. 8-9).

The gradient is written out. Where experts are many and small, gating is a large part of the layer's cost, and much of
that is memory got afresh: left to autograd it takes about three times as many tensors [T, N].
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Softplus underflows to 0 for logits below about -100, and 0/0 is NaN. A standard deviation this small changes no
# probability, since differences between float32 logits are many orders of magnitude larger or exactly zero.
SMALLEST_NOISE = 1e-10
# So many standard deviations away, the normal distribution and its density are 0 (or 1) exactly; 0·∞ would be NaN.
FARTHEST = 40.0


def noisy_top_k(clean: Tensor, noise_logits: Tensor, k: int, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """
    Args:
        clean: [T, N], x·W_g.
        noise_logits: [T, N], x·W_noise.
        k: experts to choose.
        training: whether to draw noise; else it is zero.

    Returns:
        the chosen experts [T, k], their gate values [T, k], and [T, N] P(x, i), the probability that expert i is among
        the k best when only its own noise is drawn again.
    """
    chosen, kept, probability = _NoisyTopK.apply(clean, noise_logits, k, training)
    return chosen, kept.softmax(dim=1), probability  # Eq. 3


class _NoisyTopK(torch.autograd.Function):
    """As `noisy_top_k`, but with the chosen experts' noisy logits for their gate values."""

    @staticmethod
    def forward(ctx: Any, clean: Tensor, noise_logits: Tensor, k: int, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        std = F.threshold(F.softplus(noise_logits), SMALLEST_NOISE, SMALLEST_NOISE, inplace=True)
        noise = torch.randn_like(clean) if training else torch.zeros_like(clean)
        noisy = torch.addcmul(clean, noise, std)  # Eq. 4
        kept, chosen = noisy.topk(k, dim=1)  # Eq. 5
        # kth_excluding(H(x), k, i): the k-th largest noisy logit without entry i is the (k+1)-th of all where i is
        # itself among the top k, and the k-th elsewhere. By index rather than by comparison, so that ties are exact.
        # With k = N there is no (k+1)-th: -∞, and P = 1.
        next_value, next_best = noisy.scatter_(1, chosen, -torch.inf).max(dim=1, keepdim=True)
        z = torch.sub(clean, kept[:, -1:], out=noisy)
        z.scatter_(1, chosen, clean.gather(1, chosen) - next_value)
        z.div_(std).clamp_(-FARTHEST, FARTHEST)
        experts = torch.cat([chosen, next_best], dim=1)  # those whose noisy logits decided anything
        ctx.save_for_backward(noise_logits, std, z, experts, noise.gather(1, experts))
        ctx.mark_non_differentiable(chosen)
        probability = torch.mul(z, math.sqrt(1 / 2), out=noise).erf_().add_(1).div_(2)  # Φ(z), Eq. 9
        return chosen, kept, probability

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None, by_kept: Tensor, by_probability: Tensor) -> tuple[Tensor, Tensor, None, None]:
        noise_logits, std, z, experts, noise_of_experts = ctx.saved_tensors
        density = z.square().div_(-2).exp_().div_(math.sqrt(2 * math.pi))  # Φ'(z)
        by_clean = density.mul_(by_probability).div_(std)
        by_std = torch.mul(by_clean, z).neg_()
        # By the thresholds, which are noisy logits: the next best one of the chosen, the k-th of all others.
        chosen = experts[:, :-1]
        of_chosen = by_clean.gather(1, chosen)
        of_others = by_clean.scatter_(1, chosen, 0).sum(dim=1)
        by_clean.scatter_(1, chosen, of_chosen)
        by_noisy = torch.cat([by_kept, -of_chosen.sum(dim=1, keepdim=True)], dim=1)
        by_noisy[:, -2] -= of_others
        by_clean.scatter_add_(1, experts, by_noisy)
        by_std.scatter_add_(1, experts, by_noisy * noise_of_experts)
        return by_clean, by_std.mul_(noise_logits.sigmoid()), None, None
