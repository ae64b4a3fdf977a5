"""MoE layers of which several processes each are given a part of the batch.

Axes: as in outrageous.moe. A unit is what a gate chooses among: an expert, or a group in a hierarchy.
"""

from dataclasses import replace

import torch
from torch import Tensor

from outrageous.moe import Mixtures, MoE, MoEReport, Routing
from outrageous.moe.grouped import same_dtype
from outrageous.moe.memory import KeptMemory
from outrageous.moe.part import BatchPart, at_hand, part_at_hand
from outrageous.moe.routing import combine, gather
from outrageous.parallel.crossing import Crossing
from outrageous.parallel.numbered import NumberedPart
from outrageous.parallel.processes import Processes
from outrageous.parallel.reports import PartOfReport, PendingReport, placed
from outrageous.parallel.shards import Shard, cut_to_shard, take


class ReplicatedMoE(MoE):
    """Every process has all experts, for its own tokens. The report is that of the whole batch."""

    def __init__(self, moe: MoE, processes: Processes) -> None:
        super().__init__(moe.gate, moe.experts)
        self.processes = processes

    def forward(self, x: Tensor) -> tuple[Tensor, MoEReport]:
        """x [..., D], of this process -> y [..., D], and the report of all processes' tokens."""
        tokens = x.reshape(-1, x.shape[-1])
        routing = self.gate(tokens)
        memory: KeptMemory | None = getattr(self.experts, "memory", None)
        load, none = routing.tokens_per_expert.to(routing.load.dtype), torch.zeros_like(routing.threshold_loss)
        here = replace(routing, load=load, threshold_loss=none)  # as `PendingReport` wants it
        rows, report = self.experts(gather(tokens, routing.token, memory), here)
        secondary = PartOfReport(report, len(rows)) if isinstance(self.experts, Mixtures) else None
        whole = PendingReport(PartOfReport(routing.report(), len(tokens)), secondary, self.processes)
        return combine(rows, routing.token, routing.weight, len(tokens), memory).view(x.shape), whole.result()


class ShardedMoE(MoE):
    """Every process has some of the experts, or some groups of a hierarchy. A row for each chosen one is sent to the
    process that has it, and back."""

    def __init__(self, moe: MoE, processes: Processes) -> None:
        """Leaves the experts of this process in `moe`. Raises ValueError if there are fewer units than processes."""
        super().__init__(moe.gate, moe.experts)
        self.processes = processes
        num_units: int = self.experts.num_experts  # type: ignore[assignment]
        self.shards = [Shard.of(num_units, rank, processes.size) for rank in range(processes.size)]
        self.shard = self.shards[processes.rank]
        take(self.experts, self.shard)
        cut_to_shard(self.experts, self.shard)

    def forward(self, x: Tensor) -> tuple[Tensor, MoEReport]:
        """x [..., D], of this process -> y [..., D], and the report of all processes' tokens."""
        tokens = x.reshape(-1, x.shape[-1])
        routing = self.gate(tokens)
        crossing = Crossing(self.processes, self.shards, routing.tokens_per_expert, self._numbers(routing))
        (to_experts,) = same_dtype(tokens)  # in the dtype in which they compute
        memory: KeptMemory | None = getattr(self.experts, "memory", None)
        rows = crossing.there(gather(to_experts, routing.token, memory))
        secondary = None
        if isinstance(self.experts, Mixtures):
            weight = crossing.there(routing.weight.unsqueeze(1)).squeeze(1)
            with at_hand(self._part(crossing)):
                out, report = self.experts(rows, crossing.routing(weight))
            secondary = PartOfReport(placed(report, self.shard), len(rows))
        else:  # these do not ask for weights
            out, _ = self.experts(rows, crossing.routing(rows.new_ones(len(rows))))
        whole = PendingReport(PartOfReport(routing.report(), len(tokens)), secondary, self.processes)
        y = combine(crossing.back(out), routing.token, routing.weight, len(tokens), memory)
        return y.view(x.shape), whole.result()

    def _numbers(self, routing: Routing) -> Tensor | None:
        """Of the rows' tokens. Nobody but secondary gates asks for them."""
        part = part_at_hand()
        return (
            part.numbers[routing.token]
            if isinstance(part, NumberedPart) and isinstance(self.experts, Mixtures)
            else None
        )

    def _part(self, crossing: Crossing) -> BatchPart:
        """The rows here, among which are all for the units here."""
        part = part_at_hand()
        if isinstance(part, NumberedPart) and crossing.numbers is not None:
            return replace(part, numbers=crossing.numbers, complete=True, first_expert=self.shard.first)
        return part
