"""What some processes wrote, any number of others read, or are told which file is not as it was."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from outrageous.errors import UserError
from outrageous.parallel.checkpoint_folders import delete_others, put_back, take_out, write_folder
from outrageous.parallel.processes import Processes
from outrageous.parallel.shard_files import load_shards, save_shards
from outrageous.parallel.shards import Shard

NUM_UNITS, PER_UNIT = 7, 2
WEIGHT = torch.arange(NUM_UNITS * PER_UNIT * 3.0).view(-1, 3)
AVERAGE = torch.arange(NUM_UNITS * 1.0)


def checkpoint_of(shard: Shard) -> dict[str, Any]:
    """As Lightning makes it on a process with these units."""
    state = {"step": torch.tensor(4.0), "average": AVERAGE[shard.rows(len(AVERAGE))].clone()}
    return {
        "state_dict": {"dense": torch.ones(2), "moe.experts.weight": WEIGHT[shard.rows(len(WEIGHT))].clone()},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0)}, 1: state}, "param_groups": []}],
    }


@pytest.fixture
def written(
    together: Callable[[Callable[[Processes], Any], int], list[Any]], tmp_path: Path
) -> tuple[Path, dict[str, Any]]:
    """A checkpoint by three processes: its path, and what the file holds."""
    path = tmp_path / "last.ckpt"

    def write(processes: Processes) -> dict[str, Any]:
        shard = Shard.of(NUM_UNITS, processes.rank, processes.size)
        rest, state, shards = take_out(checkpoint_of(shard), {"moe.experts.weight": shard}, [{1: shard}])
        return rest | {"experts": write_folder(path, "4.new", state, shards, processes)}

    return path, together(write, 3)[0]


def whole(path: Path, rest: dict[str, Any], size: int) -> tuple[Tensor, Tensor]:
    """Weight and average as `size` processes read them."""
    read = []
    for rank in range(size):
        states = rest | {"state_dict": dict(rest["state_dict"])}
        checkpoint = put_back(states, path, Processes(rank, size))
        weight = checkpoint["state_dict"]["moe.experts.weight"]
        assert len(weight) == PER_UNIT * Shard.of(NUM_UNITS, rank, size).size
        read.append((weight, checkpoint["optimizer_states"][0]["state"][1]["average"]))
    weights, averages = zip(*read, strict=True)
    return torch.cat(weights), torch.cat(averages)


def test_any_number_of_processes_reads_what_three_wrote(written: tuple[Path, dict[str, Any]]) -> None:
    path, rest = written
    assert list(rest["state_dict"]) == ["dense"]
    assert [*rest["optimizer_states"][0]["state"][1]] == ["step"]
    for size in (1, 2, 3, 5):
        weight, average = whole(path, rest, size)
        torch.testing.assert_close(weight, WEIGHT, rtol=0, atol=0)
        torch.testing.assert_close(average, AVERAGE, rtol=0, atol=0)


def test_a_missing_and_a_truncated_file_are_named(written: tuple[Path, dict[str, Any]]) -> None:
    path, rest = written
    folder = path.parent / rest["experts"]
    file = sorted(folder.glob("*.distcp"))[1]
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        UserError, match=rf"{re.escape(str(file))} .* is truncated, \d+ bytes instead of \d+: restore it"
    ):
        load_shards(folder, Processes())
    file.unlink()
    with pytest.raises(UserError, match=rf"{re.escape(str(file))} .* is missing"):
        load_shards(folder, Processes())
    (folder / ".metadata").write_bytes(b"")
    with pytest.raises(UserError, match=r"\.metadata of a checkpoint is missing or damaged"):
        load_shards(folder, Processes())


def test_a_full_disk_is_named_by_all_and_nothing_is_left(
    together: Callable[[Callable[[Processes], Any], int], list[Any]], small_disk: Callable[[str], Path]
) -> None:
    folder = small_disk("64k") / "last.experts"

    def write(processes: Processes) -> str:
        shard = Shard.of(2, processes.rank, processes.size)
        with pytest.raises(UserError) as caught:
            save_shards(folder, {"weight": torch.zeros(100_000)}, {"weight": shard}, processes)
        return str(caught.value)

    messages = together(write, 2)
    assert len({*messages}) == 1
    assert re.search(r"process \d cannot write its experts to checkpoint .*last\.experts: ", messages[0])
    assert "No space left" in messages[0]
    assert not folder.exists()


def test_only_folders_of_earlier_checkpoints_at_the_same_place_are_deleted(
    written: tuple[Path, dict[str, Any]],
) -> None:
    path, rest = written
    for name in ("last.experts.2.old", "best.experts.2.old"):
        (path.parent / name).mkdir()
    delete_others(path, rest["experts"])
    left = {folder.name for folder in path.parent.glob("*.experts.*")}
    assert left == {"last.experts.4.new", "best.experts.2.old"}
