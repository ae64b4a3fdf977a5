"""The step of `FactoredAdam` without the gradient: from the two matrices whose product the gradient is.

For one expert with m rows, G = Dᵀ X: X [m, in] what came into the layer, D [m, out] the gradient of what left it. Then

    Σ_j G_ij² = (Dᵀ (X Xᵀ) D)_ii        Σ_i G_ij² = (Xᵀ (D Dᵀ) X)_jj

and the step, G_ij·a_i·b_j, is the product of D and X with their columns scaled, added to the weight as it is computed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from outrageous.moe.factors import GradientFactors, collect_factors
from outrageous.optim.factored_adam import FactoredAdam, Step, next_step

# About how many of a matrix product take as long as one element of a gradient takes to be squared, averaged and applied
# (measured on one core, experts of 1024 by 512: the two ways cost the same at some 100 rows an expert).
MULTIPLY_ADDS_PER_ELEMENT = 64


class GradientFreeFactoredAdam(FactoredAdam):
    """`FactoredAdam` to rounding, with the same state, for the weights of `FeedForwardExperts`, whose gradients it has
    the backward pass hand over as factors: `weight.grad` stays None.

    So there is nothing to be clipped or to be added up, over several backward passes or several replicas. One backward
    pass for each step; `zero_grad` drops the factors too.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, beta2: float = 0.999, eps: float = 1e-8) -> None:
        """As for `FactoredAdam`. The weights [N, out, in] are marked: no other optimizer can train them any more."""
        super().__init__(params, lr, beta2, eps)
        weights = [parameter for group in self.param_groups for parameter in group["params"]]
        self._factors = {weight: collect_factors(weight) for weight in weights}

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for factors in self._factors.values():
            factors.clear()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every weight that a backward pass went through. Returns what the closure returns.

        Raises:
            ValueError: a weight has a gradient of its own, or went through more than one backward pass since the last
                step. No weight is changed then.
        """
        with torch.enable_grad():
            loss = closure() if closure else None
        for weight, factors in self._factors.items():
            _check(weight, factors)
        for group in self.param_groups:
            for weight in group["params"]:
                if self._factors[weight]:
                    state = self.state[weight] or self._initial_state(weight)
                    _update(weight, self._factors[weight].pop(), state, next_step(state, group))
        return loss


def _check(weight: Tensor, factors: list[GradientFactors]) -> None:
    if weight.grad is not None:
        raise ValueError(
            f"a weight of shape {tuple(weight.shape)} has a gradient, but is updated without one: give this optimizer "
            "the weights of FeedForwardExperts alone, on a CPU, and everything else to another"
        )
    if len(factors) > 1:
        raise ValueError(
            f"{len(factors)} backward passes since the last step: without gradients there is nothing to add them up "
            "in. Take one step after each, or use FactoredAdam"
        )


def _update(weight: Tensor, factors: GradientFactors, state: dict[str, Tensor], step: Step) -> None:
    """An expert with few rows is updated from their Gram matrices. With many, these cost more than they save: its
    gradient is formed after all, in memory that the next such expert uses again. Of those without rows the averages
    decay, all at once: with very many experts most have none."""
    active = [expert for expert, num_rows in enumerate(factors.rows_per_expert) if num_rows]
    counts = [factors.rows_per_expert[expert] for expert in active]
    without_rows = torch.tensor(factors.rows_per_expert, device=weight.device) == 0
    step.decay(state["row_mean"], without_rows)
    step.decay(state["column_mean"], without_rows)
    out, in_ = weight.shape[1:]
    gradient, buffer = weight.new_empty(out, in_), weight.new_empty(out, in_)
    for expert, grad_out, inputs in zip(
        active, factors.grad_out.split(counts), factors.inputs.split(counts), strict=True
    ):
        matrix, row_mean, column_mean = weight[expert], state["row_mean"][expert], state["column_mean"][expert]
        d, x = grad_out.to(weight.dtype), inputs.to(weight.dtype)  # under autocast they are of lower precision
        if 2 * len(x) ** 2 * (out + in_) < MULTIPLY_ADDS_PER_ELEMENT * out * in_:  # those of the Gram matrices
            a, b = step.scales(row_mean, _row_squares(d, x), column_mean, _row_squares(x, d))
            matrix.addmm_((d * a).t(), x * b, alpha=-step.lr)
        else:
            step.update(matrix, torch.mm(d.t(), x, out=gradient), row_mean, column_mean, buffer)


def _row_squares(d: Tensor, x: Tensor) -> Tensor:
    """d [m, out], x [m, in] -> [out]: the mean of each row of (dᵀ x)²; rounding may leave a sum just below zero."""
    return torch.mm(torch.mm(x, x.t()), d).mul_(d).sum(dim=0).clamp_min_(0).div_(x.shape[1])
