"""Adam for expert weights with next to no state (appendix D): no first moment, and a factored second moment.

Axes: N experts, each weight [N, out, in]. Of the average of the squared gradient only the means of its rows [N, out]
and of its columns [N, in] are kept: for an expert of 1024 by 512, 1/341 of its size. Adam keeps twice its size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from outrageous.moe.device import on_gpu


class FactoredAdam(torch.optim.Optimizer):
    """`w ← w - lr · G / √V̂` with V̂_ij = R_i·C_j / mean(R), where R and C are the means of rows and columns of Adam's
    bias-corrected average of G², over the last two axes; mean(R) = mean(C). Where G² is of rank one V̂ is exact, and
    this is Adam with β₁ = 0.

    All leading axes are experts, each with means of its own; nothing of one expert enters the update of another, so
    shards of the first axis may be updated apart. As with Adam, an expert without tokens, whose gradient is zero, stays
    as it is while its average decays.

    Where the paper is silent: ε² is added to every mean, which keeps V̂ a product and a zero gradient harmless (Adam
    adds ε to √V̂; the two differ only for gradients about as small as ε). A parameter of fewer than two axes has neither
    rows nor columns, and keeps its second moment whole.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, beta2: float = 0.999, eps: float = 1e-8) -> None:
        """
        Args:
            params: parameters, or groups of them with settings of their own.
            lr: learning rate.
            beta2: decay of the average of the squared gradient.
            eps: ε, in the units of a gradient.

        Raises:
            ValueError: lr is negative, beta2 not in [0, 1), or eps not positive.
        """
        if not (lr >= 0 and 0 <= beta2 < 1 and eps > 0):
            raise ValueError(f"{lr=}, {beta2=}, {eps=}: needs lr >= 0, 0 <= beta2 < 1 and eps > 0")
        super().__init__(params, {"lr": lr, "beta2": beta2, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient. Returns what the closure returns."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter] or self._initial_state(parameter)
                    update = _update_vector if parameter.dim() < 2 else _update_matrices
                    update(parameter, parameter.grad, state, next_step(state, group))
        return loss

    def _initial_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """`step`, and the averages before bias correction: `row_mean` [..., out] and `column_mean` [..., in]."""
        state = self.state[parameter]
        state["step"] = torch.zeros(())
        if parameter.dim() < 2:
            state["mean"] = torch.zeros_like(parameter)
        else:
            state["row_mean"] = torch.zeros_like(parameter.select(-1, 0))
            state["column_mean"] = torch.zeros_like(parameter.select(-2, 0))
        return state


@dataclass(frozen=True)
class Step:
    """One step of one parameter: its settings, and the correction 1 - β₂^t of averages that began at zero.

    Axes: ... experts, all or some or a single one.
    """

    lr: float
    beta2: float
    eps: float
    correction: float

    def average(self, mean: Tensor, squares: Tensor) -> Tensor:
        """Updates the average `mean` by the squares of this step; returns it corrected, and with ε² added."""
        mean.lerp_(squares, 1 - self.beta2)
        return (mean / self.correction).add_(self.eps**2)

    def decay(self, mean: Tensor, without_gradient: Tensor) -> None:
        """Updates the averages `mean` [N, width] of those experts whose gradient is zero; without_gradient [N] bool."""
        factor = torch.ones_like(mean[:, :1]).masked_fill_(without_gradient.unsqueeze(1), self.beta2)
        mean.mul_(factor)

    def scales(
        self, row_mean: Tensor, row_squares: Tensor, column_mean: Tensor, column_squares: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Updates the averages, row_mean [..., out] and column_mean [..., in], by the means of this step's G².

        Returns a [..., out] and b [..., in] with 1/√V̂_ij = a_i·b_j.
        """
        rows, columns = self.average(row_mean, row_squares), self.average(column_mean, column_squares)
        return rows.div_(rows.mean(dim=-1, keepdim=True)).rsqrt_(), columns.rsqrt_()

    def update(self, weight: Tensor, gradient: Tensor, row_mean: Tensor, column_mean: Tensor, buffer: Tensor) -> None:
        """Moves weight [..., out, in] and its averages; what `buffer`, of the weight's shape, holds is overwritten."""
        square = torch.mul(gradient, gradient, out=buffer)
        a, b = self.scales(row_mean, square.mean(dim=-1), column_mean, square.mean(dim=-2))
        weight.addcmul_(gradient, torch.mul(a.unsqueeze(-1), b.unsqueeze(-2), out=buffer), value=-self.lr)


def next_step(state: dict[str, Tensor], group: dict[str, Any]) -> Step:
    """Counts one more step."""
    state["step"] += 1
    return Step(group["lr"], group["beta2"], group["eps"], 1 - group["beta2"] ** state["step"].item())


def _update_matrices(parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], step: Step) -> None:
    """Block after block of experts, so that what is read twice is in the cache and no temporary is large."""
    out, in_ = parameter.shape[-2:]
    experts_per_block = max(1, elements_per_block(parameter) // max(1, out * in_))
    blocks = [
        tensor.view(-1, *shape).split(experts_per_block)
        for tensor, shape in (
            (parameter, (out, in_)),
            (gradient, (out, in_)),
            (state["row_mean"], (out,)),
            (state["column_mean"], (in_,)),
        )
    ]
    buffer = torch.empty_like(blocks[0][0])
    for weight, grad, row_mean, column_mean in zip(*blocks, strict=True):
        step.update(weight, grad, row_mean, column_mean, buffer[: len(weight)])


def _update_vector(parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], step: Step) -> None:
    parameter.addcdiv_(gradient, step.average(state["mean"], gradient.square()).sqrt_(), value=-step.lr)


def elements_per_block(parameter: Tensor) -> int:
    """On a CPU what fits the cache of a core; elsewhere enough to keep the device busy."""
    return 2**26 if on_gpu(parameter) else 2**18
