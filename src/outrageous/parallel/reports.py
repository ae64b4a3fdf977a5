"""What MoE layers report of a whole batch, from what each process has to add: in one sum, waited for at last.

Axes: N experts; units are what a gate chooses among: experts, or groups of a hierarchy.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from outrageous.moe import MoEReport
from outrageous.parallel.processes import Processes
from outrageous.parallel.shards import Shard


@dataclass(frozen=True)
class PartOfReport:
    """What is reported of the rows here; over `num_rows` of them the threshold loss is a mean."""

    report: MoEReport
    num_rows: int

    def flat(self) -> Tensor:
        """[3N + 2], in float64: numbers of rows stay exact."""
        report, num_rows = self.report, self.report.load.new_tensor([self.num_rows], dtype=torch.float64)
        threshold_loss = report.threshold_loss * num_rows
        return torch.cat([report.tokens_per_expert, report.importance, report.load, threshold_loss, num_rows])


class PendingReport:
    """The report of the rows of all processes, on its way."""

    def __init__(self, primary: PartOfReport, secondary: PartOfReport | None, processes: Processes) -> None:
        """
        Args:
            primary: of the tokens here, among all units.
            secondary: of mixtures, of the rows that they have here, among all experts; weights are those of the
                hierarchy, but for load a group has as much as it has rows here.
        """
        self._parts = [part for part in (primary, secondary) if part is not None]
        self._sum = processes.start_sum(torch.cat([part.flat() for part in self._parts]))

    def result(self) -> MoEReport:
        sums = self._sum.result().split([3 * len(part.report.load) + 2 for part in self._parts])
        units, *rest = [_unflatten(flat, part.report.load.dtype) for flat, part in zip(sums, self._parts, strict=True)]
        if not rest:
            return units
        (experts,) = rest
        per_row = experts.load.view(len(units.load), -1) / units.tokens_per_expert.clamp_min(1).unsqueeze(1)
        return replace(
            experts,
            load=(units.load.unsqueeze(1) * per_row).flatten(),  # Eq. 14
            threshold_loss=units.threshold_loss + experts.threshold_loss,
        )


def _unflatten(flat: Tensor, dtype: torch.dtype) -> MoEReport:
    num_experts = (len(flat) - 2) // 3
    tokens_per_expert, importance, load, of_rows = flat.split([num_experts, num_experts, num_experts, 2])
    return MoEReport(
        tokens_per_expert=tokens_per_expert.detach().long(),
        importance=importance.to(dtype),
        load=load.to(dtype),
        threshold_loss=(of_rows[0] / of_rows[1].clamp_min(1)).to(dtype),
    )


def placed(report: MoEReport, shard: Shard) -> MoEReport:
    """That of the experts here among zeros for the others."""
    num_experts = shard.num_rows(len(report.load))
    place = shard.rows(num_experts)

    def among_all(values: Tensor) -> Tensor:
        return F.pad(values, (place.start, num_experts - place.stop))

    return replace(
        report,
        tokens_per_expert=among_all(report.tokens_per_expert),
        importance=among_all(report.importance),
        load=among_all(report.load),
    )
