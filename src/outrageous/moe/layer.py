"""The mixture-of-experts layer: y = Σ_i G(x)_i · E_i(x) (Eq. 1)."""

from torch import Tensor, nn

from outrageous.moe.grouped import same_dtype
from outrageous.moe.hierarchical import Mixtures
from outrageous.moe.memory import KeptMemory
from outrageous.moe.routing import MoEReport, combine, gather


class MoE(nn.Module):
    """Sends each token to the experts its gate chose and adds up their outputs, weighted. No token is ever dropped.

    Where the experts are `Mixtures`, the layer is the hierarchical one of appendix B.
    """

    def __init__(self, gate: nn.Module, experts: nn.Module) -> None:
        """
        Args:
            gate: x [T, D] -> `Routing` among gate.num_experts experts.
            experts: (rows [S, D], routing) -> (rows [S, D], and a `MoEReport`), for experts.num_experts experts. Where
                they have a `memory`, a `KeptMemory`, their rows are put there too.

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
        memory: KeptMemory | None = getattr(self.experts, "memory", None)
        # In the dtype in which experts compute, before there are k rows of each; secondary gates want all digits.
        to_experts = tokens if isinstance(self.experts, Mixtures) else same_dtype(tokens)[0]
        rows, report = self.experts(gather(to_experts, routing.token, memory), routing)  # [S, D], E_i(x)
        return combine(rows, routing.token, routing.weight, len(tokens), memory).view(x.shape), report  # Eq. 1
