"""A checkpoint of which the experts are in a folder beside it.

The file names the folder. It is moved to its place when both are whole, and only then is the folder of the one before
deleted: whenever it breaks off, the file that is there names a folder that is whole.
"""

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from outrageous.parallel.processes import Processes
from outrageous.parallel.shard_files import load_shards, save_shards
from outrageous.parallel.shards import Shard

KEY = "experts"  # of a checkpoint: the folder's name
MODEL, OPTIMIZER = "model", "optimizer"

Checkpoint = dict[str, Any]


def take_out(
    checkpoint: Checkpoint, of_model: dict[str, Shard], of_optimizers: list[dict[int, Shard]]
) -> tuple[Checkpoint, dict[str, Tensor], dict[str, Shard]]:
    """The checkpoint of one process without its experts' state, that state, and of which units each of it is."""
    state = {f"{MODEL} {name}": checkpoint["state_dict"][name] for name in of_model}
    shards = {f"{MODEL} {name}": shard for name, shard in of_model.items()}
    rest = {name: value for name, value in checkpoint["state_dict"].items() if name not in of_model}
    optimizers = []
    for index, optimizer in enumerate(checkpoint.get("optimizer_states", [])):
        of_parameters = dict(optimizer["state"])
        for number, shard in of_optimizers[index].items():
            values = of_parameters.get(number, {})
            rows = {name: value for name, value in values.items() if isinstance(value, Tensor) and value.dim()}
            of_parameters[number] = {name: value for name, value in values.items() if name not in rows}
            state |= {f"{OPTIMIZER} {index} {number} {name}": value for name, value in rows.items()}
            shards |= dict.fromkeys((f"{OPTIMIZER} {index} {number} {name}" for name in rows), shard)
        optimizers.append(optimizer | {"state": of_parameters})
    return checkpoint | {"state_dict": rest, "optimizer_states": optimizers}, state, shards


def put_back(checkpoint: Checkpoint, path: Path, processes: Processes) -> Checkpoint:
    """A checkpoint read from `path` with the state of this process's experts, if that is in a folder. Raises UserError
    as `load_shards`."""
    if KEY not in checkpoint:
        return checkpoint
    for name, value in load_shards(path.parent / checkpoint[KEY], processes).items():
        kind, key = name.split(" ", 1)
        if kind == MODEL:
            checkpoint["state_dict"][key] = value
        elif checkpoint["optimizer_states"]:
            index, number, of_state = key.split(" ")
            checkpoint["optimizer_states"][int(index)]["state"][int(number)][of_state] = value
    return checkpoint


def write_folder(path: Path, tag: str, state: dict[str, Tensor], shards: dict[str, Shard], processes: Processes) -> str:
    """Writes the experts of the checkpoint `path`; returns the folder's name. tag: new, and everywhere the same."""
    folder = path.with_name(f"{path.stem}.{KEY}.{tag}")
    save_shards(folder, state, shards, processes)
    return folder.name


def delete_others(path: Path, name: str | None) -> None:
    """Folders of checkpoints that stood at `path` before the one with the folder `name`, or with none."""
    for folder in path.parent.glob(f"{path.stem}.{KEY}.*"):
        if folder.name != name:
            shutil.rmtree(folder)
