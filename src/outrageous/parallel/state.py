"""State of all processes made that of one, and cut again for any number of them."""

from collections.abc import Callable
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

    def of_all(number: int, value: Tensor) -> Tensor:
        return whole(value, shards[number], processes) if number in shards and value.dim() else value

    return _with_each(state, of_all)


def cut_optimizer_state(state: State, shards: dict[int, Shard]) -> State:
    """A whole state with the units of `shards` only, in memory of its own."""

    def of_shard(number: int, value: Tensor) -> Tensor:
        return (value[shards[number].rows(len(value))] if number in shards and value.dim() else value).clone()

    return _with_each(state, of_shard)


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


def _with_each(state: State, change: Callable[[int, Tensor], Tensor]) -> State:
    """An optimizer's state with each tensor changed; `change` is told of which parameter, by number, it is."""
    return state | {
        "state": {
            number: {name: change(number, value) if isinstance(value, Tensor) else value for name, value in of.items()}
            for number, of in state["state"].items()
        }
    }
