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
from outrageous.optim.factored_adam import FactoredAdam, inverse_roots


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
                    state["step"] += 1
                    _update(weight, self._factors[weight].pop(), state, group)
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


def _update(weight: Tensor, factors: GradientFactors, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    pairs = [
        (grad_out.to(weight.dtype), inputs.to(weight.dtype))  # under autocast they are of lower precision
        for grad_out, inputs in zip(
            factors.grad_out.split(factors.rows_per_expert), factors.inputs.split(factors.rows_per_expert), strict=True
        )
    ]
    row_mean, column_mean = torch.empty_like(state["row_mean"]), torch.empty_like(state["column_mean"])
    for expert, pair in enumerate(pairs):
        _mean_squares(*pair, row_mean[expert], column_mean[expert])
    state["row_mean"].lerp_(row_mean, 1 - group["beta2"])
    state["column_mean"].lerp_(column_mean, 1 - group["beta2"])
    a, b = inverse_roots(state["row_mean"], state["column_mean"], state, group)
    for matrix, (grad_out, inputs), a_, b_ in zip(weight, pairs, a, b, strict=True):
        matrix.addmm_((grad_out * a_).t(), inputs * b_, alpha=-group["lr"])


def _mean_squares(grad_out: Tensor, inputs: Tensor, row_mean: Tensor, column_mean: Tensor) -> None:
    """Writes the means of rows [out] and of columns [in] of G² for G = grad_outᵀ · inputs, [m, out] and [m, in].

    Whichever costs fewer multiply-adds: the Gram matrices of the m rows, or, where an expert has very many of them, its
    gradient after all, one expert's at a time.
    """
    (num_rows, out), in_ = grad_out.shape, inputs.shape[1]
    if 2 * num_rows * (out + in_) < out * in_:
        rows = torch.mm(torch.mm(inputs, inputs.t()), grad_out).mul_(grad_out).sum(dim=0)
        columns = torch.mm(torch.mm(grad_out, grad_out.t()), inputs).mul_(inputs).sum(dim=0)
        torch.div(rows.clamp_min_(0), in_, out=row_mean)  # rounding may leave a sum just below zero
        torch.div(columns.clamp_min_(0), out, out=column_mean)
    else:
        square = torch.mm(grad_out.t(), inputs).square_()
        torch.mean(square, dim=1, out=row_mean)
        torch.mean(square, dim=0, out=column_mean)
