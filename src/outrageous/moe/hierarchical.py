"""Experts that are mixtures themselves, which makes a mixture of them a hierarchical one (appendix B).

    MoE(NoisyTopKGate(D, A, k), Mixtures(NoisyTopKGates(A, D, B, k), FeedForwardExperts(A·B, D, H)))

Axes: A groups, B experts in each, N = A·B; expert j of group i is number i·B + j. S rows, each in one group.
"""

from dataclasses import replace

from torch import Tensor, nn

from outrageous.moe.grouped import same_dtype
from outrageous.moe.memory import KeptMemory
from outrageous.moe.part import at_hand, part_at_hand
from outrageous.moe.routing import MoEReport, Routing, combine, gather


class Mixtures(nn.Module):
    """A mixtures, each with a gate and B experts of its own. Only chosen groups' gates and experts do any work."""

    def __init__(self, gates: nn.Module, experts: nn.Module) -> None:
        """
        Args:
            gates: (rows [S, D] sorted by group, tokens_per_group [A], `KeptMemory` for the gradient of rows or None) ->
                `Routing` of rows among N experts, with load [N]: Load_i(X^(i))_j; has num_groups and num_experts (N).
            experts: as in `MoE`, N of them.

        Raises:
            ValueError: the two numbers of experts differ.
        """
        super().__init__()
        if gates.num_experts != experts.num_experts:
            raise ValueError(f"the gates choose among {gates.num_experts} experts, but there are {experts.num_experts}")
        self.gates, self.experts = gates, experts
        self.num_experts = gates.num_groups  # what the primary gate chooses among
        self.memory = None if getattr(experts, "memory", None) is None else KeptMemory()

    def forward(self, rows: Tensor, routing: Routing) -> tuple[Tensor, MoEReport]:
        """rows [S, D] sorted by group, and the primary gate's routing -> [S, D], what each row's group makes of it, and
        the report of all N experts."""
        with at_hand(part_at_hand().rows(routing.token, routing.expert)):
            secondary = self.gates(rows, routing.tokens_per_expert, self.memory)
        memory: KeptMemory | None = getattr(self.experts, "memory", None)
        (to_experts,) = same_dtype(rows)  # in the dtype in which they compute
        out, report = self.experts(gather(to_experts, secondary.token, memory), nested(routing, secondary))
        out = combine(out, secondary.token, secondary.weight, len(rows), memory)  # Eq. 12's inner sum
        return out, report


def nested(primary: Routing, secondary: Routing) -> Routing:
    """Both levels as one: where the secondary gates send the rows [S, D] that the primary gate made of the tokens.

    primary: of tokens among A groups.  secondary: of its rows among A·B experts.  Returns that of its rows, with
    weights, importance and load of the hierarchy.
    """
    weight = primary.weight[secondary.token] * secondary.weight  # Eq. 12: G_primary(x)_i · G_i(x)_j
    return replace(
        secondary,
        weight=weight,
        importance=weight.new_zeros(secondary.importance.shape).index_add(0, secondary.expert, weight),  # Eq. 13
        load=_load(primary, secondary.load),
        threshold_loss=primary.threshold_loss + secondary.threshold_loss,
    )


def _load(primary: Routing, secondary_load: Tensor) -> Tensor:
    """Eq. 14: Load_H(X)_{i,j} = Load_primary(X)_i · Load_i(X^(i))_j / |X^(i)|; zero for a group nobody chose."""
    tokens_per_group = primary.tokens_per_expert.clamp_min(1)
    per_token = secondary_load.view(len(tokens_per_group), -1) / tokens_per_group.unsqueeze(1)
    return (primary.load.unsqueeze(1) * per_token).flatten()
