"""State put together and cut again, bit by bit; and read by all processes of a machine from the same memory."""

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from outrageous.parallel.processes import Processes
from outrageous.parallel.shards import Shard
from outrageous.parallel.state import cut_optimizer_state, whole_optimizer_state, whole_state
from outrageous.parallel.strategy import OneBatchStrategy

Together = Callable[[Callable[[Processes], Any], int], list[Any]]
NUM_UNITS, PER_UNIT = 7, 2
EXPERTS = 1  # the parameter that processes share out


def optimizer_state() -> dict[str, Any]:
    """Of a dense parameter, and of experts: a moment and the factors of another, for each unit two rows and one."""
    moment = torch.rand(NUM_UNITS * PER_UNIT, 3)
    dense = {"step": torch.tensor(4.0), "exp_avg": torch.rand(5)}
    experts = {"step": torch.tensor(4.0), "exp_avg": moment, "rows": moment.sum(dim=1), "units": torch.rand(NUM_UNITS)}
    return {"state": {0: dense, EXPERTS: experts}, "param_groups": [{"lr": 0.1, "params": [0, EXPERTS]}]}


def shard(processes: Processes) -> Shard:
    return Shard.of(NUM_UNITS, processes.rank, processes.size)


def test_an_optimizers_state_saved_by_two_and_cut_for_three_is_put_together_as_it_was(together: Together) -> None:
    expected = optimizer_state()

    def cut_and_put_together(processes: Processes) -> dict[str, Any]:
        shards = {EXPERTS: shard(processes)}
        mine = cut_optimizer_state(saved, shards)
        assert len(mine["state"][EXPERTS]["exp_avg"]) == PER_UNIT * shards[EXPERTS].size
        return whole_optimizer_state(mine, shards, processes)

    saved = expected
    for size in (2, 3):
        saved = together(cut_and_put_together, size)[0]
        torch.testing.assert_close(saved, expected, rtol=0, atol=0)


def test_a_models_state_is_put_together(together: Together) -> None:
    whole = {"dense": torch.rand(5), "experts": torch.rand(NUM_UNITS * PER_UNIT, 3)}

    def put_together(processes: Processes) -> dict[str, Tensor]:
        here = whole | {"experts": whole["experts"][shard(processes).rows(NUM_UNITS * PER_UNIT)]}
        return whole_state(here, {"experts": shard(processes)}, processes)

    torch.testing.assert_close(together(put_together, 3)[0], whole, rtol=0, atol=0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_checkpoint_is_read_from_the_files_memory_which_nobody_keeps(tmp_path: Path) -> None:
    def is_mapped() -> bool:
        return str(path) in Path("/proc/self/maps").read_text()

    path = tmp_path / "last.ckpt"
    torch.save({"optimizer_states": [optimizer_state()]}, path)
    checkpoint = OneBatchStrategy(True, False, timedelta(10)).load_checkpoint(path, weights_only=True)
    assert is_mapped()
    mine = cut_optimizer_state(checkpoint["optimizer_states"][0], {EXPERTS: Shard.of(NUM_UNITS, 0, 2)})
    del checkpoint
    assert not is_mapped()
    assert mine["state"][0]["exp_avg"].shape == (5,)
