"""State of all processes made that of one, and cut again for any number of them."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from outrageous.parallel.processes import Processes
from outrageous.parallel.shards import Shard

State = dict[str, Any]


def whole_state(state: State, shards: dict[str, Shard], processes: Processes) -> State:
    """A model's state with all units of each parameter in `shards`, on the CPU of the first process; to be called by
    all. On the others it is of no use."""
    return {name: whole(value, shards[name], processes) if name in shards else value for name, value in state.items()}


def whole_optimizer_state(state: State, shards: dict[int, Shard], processes: Processes) -> State:
    """The same of an optimizer's. What it keeps of a parameter is a number, or lies unit after unit as the parameter
    does."""
    return _with_each(state, shards, lambda value, shard: whole(value, shard, processes))


def cut_optimizer_state(state: State, shards: dict[int, Shard]) -> State:
    """A whole state with the units of `shards` only."""
    return _with_each(state, shards, lambda value, shard: value[shard.rows(len(value))].clone())


def whole(rows: Tensor, shard: Shard, processes: Processes) -> Tensor:
    """rows of this process's units -> those of all, on the CPU of the first process; on the others rows as they are."""
    num_rows = shard.num_rows(len(rows))
    if processes.rank > 0:
        dist.send(rows.contiguous(), dst=0)
        return rows
    result = torch.empty(num_rows, *rows.shape[1:], dtype=rows.dtype)
    result[shard.rows(num_rows)] = rows.cpu()
    for rank in range(1, processes.size):
        place = Shard.of(shard.num_units, rank, processes.size).rows(num_rows)
        received = rows.new_empty(result[place].shape)
        dist.recv(received, src=rank)
        result[place] = received.cpu()
    return result


def _with_each(state: State, shards: dict[int, Shard], change: Any) -> State:
    def changed(number: int, values: State) -> State:
        if number not in shards:
            return values
        return {
            name: change(value, shards[number]) if isinstance(value, Tensor) and value.dim() else value
            for name, value in values.items()
        }

    return state | {"state": {number: changed(number, values) for number, values in state["state"].items()}}
