"""The mixture-of-experts layer: y = Σ_i G(x)_i · E_i(x) (Eq. 1)."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class MoEReport:
    """What one forward pass did to the experts: the input of the balancing losses and of every utilisation figure.

    Attributes:
        tokens_per_expert: [N] int64.
        importance: [N] differentiable.
        load: [N] differentiable.
    """

    tokens_per_expert: Tensor
    importance: Tensor
    load: Tensor


class MoE(nn.Module):
    """Sends each token to the experts its gate chose and adds up their outputs, weighted. No token is ever dropped."""

    def __init__(self, gate: nn.Module, experts: nn.Module) -> None:
        """
        Args:
            gate: x [T, D] -> `Routing` among gate.num_experts experts.
            experts: (rows [S, D], tokens_per_expert [N]) -> rows [S, D], for experts.num_experts experts.

        Raises:
            ValueError: the two numbers of experts differ.
        """
        super().__init__()
        if gate.num_experts != experts.num_experts:
            raise ValueError(f"the gate chooses among {gate.num_experts} experts, but there are {experts.num_experts}")
        self.gate, self.experts = gate, experts

    def forward(self, x: Tensor) -> tuple[Tensor, MoEReport]:
        """x [..., D] -> y [..., D] and the report. All leading axes are tokens (§3.1: one call for all time steps)."""
        tokens = x.reshape(-1, x.shape[-1])  # [T, D]
        routing = self.gate(tokens)
        rows = tokens.index_select(0, routing.token)  # [S, D]
        rows = self.experts(rows, routing.tokens_per_expert)
        rows = rows * routing.weight.to(rows.dtype).unsqueeze(1)
        y = rows.new_zeros(tokens.shape).index_add(0, routing.token, rows)  # Eq. 1
        return y.view(x.shape), MoEReport(routing.tokens_per_expert, routing.importance, routing.load)
