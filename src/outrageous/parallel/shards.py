"""Which experts, or groups of a hierarchy, each process has, and parameters cut accordingly.

Units are what a gate chooses among. All parameters of experts lie unit after unit along their first axis.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from outrageous.moe import FeedForwardExperts


@dataclass(frozen=True)
class Shard:
    """Units first … last - 1 of `num_units`."""

    first: int
    last: int
    num_units: int

    @staticmethod
    def of(num_units: int, rank: int, size: int) -> "Shard":
        """That of one of `size` processes: numbers of units differ by at most one.

        Raises ValueError if there are fewer units than processes.
        """
        if num_units < size:
            raise ValueError(
                f"{num_units} experts (or groups of them) cannot be spread over {size} processes: use at most that many"
            )
        return Shard(rank * num_units // size, (rank + 1) * num_units // size, num_units)

    @property
    def size(self) -> int:
        return self.last - self.first

    def rows(self, num_rows: int) -> slice:
        """Of a first axis of so many rows for all units."""
        each = num_rows // self.num_units
        return slice(self.first * each, self.last * each)

    def num_rows(self, num_here: int) -> int:
        """For all units, where those of this shard have `num_here`."""
        return num_here // self.size * self.num_units


def take(experts: nn.Module, shard: Shard) -> None:
    """Leaves in a module of experts, a bank or mixtures, the units of a shard, in memory of their own. Weights of which
    these alone were drawn (`moe.kept`) stay as they are."""
    drawn = {
        weight
        for bank in experts.modules()
        if isinstance(bank, FeedForwardExperts)
        for weight in bank.weights
        if len(weight) < bank.num_experts
    }
    for module in experts.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in drawn:
                continue
            rows = parameter.detach()[shard.rows(len(parameter))].clone()
            setattr(module, name, nn.Parameter(rows, requires_grad=parameter.requires_grad))
        for count in ("num_experts", "num_groups"):
            if hasattr(module, count):
                setattr(module, count, getattr(module, count) // shard.num_units * shard.size)


def cut_to_shard(experts: nn.Module, shard: Shard) -> None:
    """From now on `experts` loads state of all units as well as of its own."""

    def cut(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
        for name, parameter in module.named_parameters():
            whole = state.get(prefix + name)
            if whole is not None and len(whole) == shard.num_rows(len(parameter)):
                state[prefix + name] = whole[shard.rows(len(whole))]

    experts.register_load_state_dict_pre_hook(cut)
