"""Every unit is on one process, and its parameters are there and nowhere else."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from outrageous.config import GateConfig, GateKind, MoEConfig
from outrageous.models.mixture import build_moe
from outrageous.moe import FeedForwardExperts, Mixtures, StrictlyBalancedGates
from outrageous.moe.kept import keeping
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


@pytest.mark.parametrize(("num_groups", "size"), [(None, 1), (None, 3), (5, 1), (5, 2)])
def test_experts_drawn_for_one_process_alone_are_those_of_a_whole_model(num_groups: int | None, size: int) -> None:
    config = MoEConfig(GateConfig(GateKind.noisy_top_k, 2), num_experts=10, d_hidden=[3, 7], num_groups=num_groups)
    torch.manual_seed(0)
    whole, drawn_next = build_moe(config, 5), torch.rand(3)
    for rank in range(size):
        shard = Shard.of(num_groups or 10, rank, size)
        torch.manual_seed(0)
        with keeping(shard.rows):
            part = build_moe(config, 5)
        torch.testing.assert_close(torch.rand(3), drawn_next, rtol=0, atol=0)
        weights = {name: weight for name, weight in part.experts.named_parameters() if "weights" in name}
        assert {len(weight) for weight in weights.values()} == {10 // shard.num_units * shard.size}
        take(part.experts, shard)
        expected = copy.deepcopy(whole.experts)
        take(expected, shard)
        torch.testing.assert_close(part.experts.state_dict(), expected.state_dict(), rtol=0, atol=0)
        assert part.experts.num_experts == expected.num_experts == shard.size
