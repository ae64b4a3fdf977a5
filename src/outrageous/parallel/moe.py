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
        of_all = self.processes.sum(routing.tokens_per_expert)
        # The load of the whole batch, here as far as an expert's tokens are from here, so that the sum is the whole.
        share = routing.tokens_per_expert.to(routing.load.dtype) / of_all
        load = self.processes.sum(routing.load) * share.where(of_all > 0, 1 / self.processes.size)
        memory: KeptMemory | None = getattr(self.experts, "memory", None)
        here = replace(routing, load=load, threshold_loss=torch.zeros_like(routing.threshold_loss))
        rows, report = self.experts(gather(tokens, routing.token, memory), here)
        mean_of = (len(tokens), len(rows))
        whole = _whole(report, slice(None), len(report.load), routing.threshold_loss, mean_of, self.processes)
        return combine(rows, routing.token, routing.weight, len(tokens), memory).view(x.shape), whole


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
        load = self.processes.sum(routing.load)[self.shard.first : self.shard.last]
        crossing = Crossing(self.processes, self.shards, routing.tokens_per_expert, self._numbers(routing))
        (to_experts,) = same_dtype(tokens)  # in the dtype in which they compute
        memory: KeptMemory | None = getattr(self.experts, "memory", None)
        rows = crossing.there(gather(to_experts, routing.token, memory))
        weight = crossing.there(routing.weight.unsqueeze(1)).squeeze(1)
        with at_hand(self._part(crossing)):
            out, report = self.experts(rows, crossing.routing(weight, load))
        num_experts = self.shard.num_rows(len(report.load))
        place = self.shard.rows(num_experts)
        mean_of = (len(tokens), len(rows))
        whole = _whole(report, place, num_experts, routing.threshold_loss, mean_of, self.processes)
        y = combine(crossing.back(out), routing.token, routing.weight, len(tokens), memory)
        return y.view(x.shape), whole

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


def _whole(
    report: MoEReport,
    place: slice,
    num_experts: int,
    threshold_loss: Tensor,
    mean_of: tuple[int, int],
    processes: Processes,
) -> MoEReport:
    """The report of all processes, from what each has to add.

    Args:
        report: of experts here; its threshold loss is that of secondary gates.
        place: of these experts among all.
        threshold_loss: of the gate.
        mean_of: the numbers of tokens and of rows, over which the threshold losses here are means.
    """

    def at_place(values: Tensor) -> Tensor:
        padded = values.new_zeros(num_experts)
        return padded.index_add(0, torch.arange(num_experts, device=values.device)[place], values)

    tokens_per_expert = at_place(report.tokens_per_expert)
    counts = processes.sum(torch.cat([tokens_per_expert, tokens_per_expert.new_tensor(mean_of)]))
    num_tokens, num_rows = counts[num_experts:].clamp_min(1).to(threshold_loss.dtype)
    both = threshold_loss * (mean_of[0] / num_tokens) + report.threshold_loss * (mean_of[1] / num_rows)
    summed = processes.sum(torch.cat([at_place(report.importance), at_place(report.load), both.unsqueeze(0)]))
    importance, load, both = summed.split([num_experts, num_experts, 1])
    return MoEReport(counts[:num_experts], importance, load, both.squeeze(0))
