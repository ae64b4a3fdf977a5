"""The gradient of a bank's weight as its two factors, for an optimizer that needs no more than these.

An expert's weight gradient is the product of the gradient of what left a layer and what came in. An optimizer that asks
for these factors is handed them by the backward pass, and the gradient, as large as the weight, is never formed.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class GradientFactors:
    """One backward pass through a weight [N, out, in]: expert e's gradient is grad_out_eᵀ · inputs_e over its own rows.

    Attributes:
        grad_out: [S, out], rows sorted by expert.
        inputs: [S, in], the same rows.
        rows_per_expert: N numbers of rows.
    """

    grad_out: Tensor
    inputs: Tensor
    rows_per_expert: list[int]


def collect_factors(weight: Tensor) -> list[GradientFactors]:
    """From now on each backward pass appends this weight's factors to the list returned, and `weight.grad` stays None.

    The list is the caller's to empty; call it for the weights of a `FeedForwardExperts`, which alone hand them over.
    """
    factors: list[GradientFactors] = []
    weight.factors = factors  # type: ignore[attr-defined]
    return factors


def factors_of(weight: Tensor) -> list[GradientFactors] | None:
    """The list of `collect_factors`; None where nobody collects them."""
    return getattr(weight, "factors", None)
