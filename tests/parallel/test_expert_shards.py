"""Every unit is on one process, and its parameters are there and nowhere else."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from outrageous.moe import FeedForwardExperts, Mixtures, StrictlyBalancedGates
from outrageous.parallel.shards import Shard, cut_to_shard, take


@given(size=st.integers(1, 9), more=st.integers(0, 30))
def test_units_are_divided_without_gap_and_as_evenly_as_can_be(size: int, more: int) -> None:
    shards = [Shard.of(size + more, rank, size) for rank in range(size)]
    assert [unit for shard in shards for unit in range(shard.first, shard.last)] == list(range(size + more))
    assert max(shard.size for shard in shards) - min(shard.size for shard in shards) <= 1


def test_fewer_units_than_processes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 experts .* cannot be spread over 4 processes"):
        Shard.of(3, 0, 4)


def test_shards_of_a_hierarchy_have_whole_groups_and_load_from_all_of_it() -> None:
    whole = Mixtures(StrictlyBalancedGates(5, 4, 3, 2), FeedForwardExperts(15, 4, 6))
    torch.nn.init.normal_(whole.gates.w_gate)  # type: ignore[arg-type]
    state = whole.state_dict()
    part = copy.deepcopy(whole)
    shard = Shard.of(5, 1, 2)  # groups 2, 3 and 4: experts 6 to 14
    take(part, shard)
    assert (part.num_experts, part.gates.num_groups, part.gates.num_experts) == (3, 3, 9)
    assert part.experts.num_experts == 9
    torch.testing.assert_close(part.state_dict()["gates.w_gate"], state["gates.w_gate"][2:])
    torch.testing.assert_close(part.state_dict()["gates.log_threshold"], state["gates.log_threshold"][2:])
    torch.testing.assert_close(part.state_dict()["experts.weights.0"], state["experts.weights.0"][6:])

    cut_to_shard(part, shard)
    mine = copy.deepcopy(part.state_dict())
    for parameter in part.parameters():
        torch.nn.init.zeros_(parameter)
    part.load_state_dict(state)
    torch.testing.assert_close(part.state_dict(), mine)
    part.load_state_dict(mine)  # its own as well
    torch.testing.assert_close(part.state_dict(), mine)
