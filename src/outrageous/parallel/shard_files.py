"""State of experts in a folder, written by all processes at once, and read by any number of others.

torch.distributed.checkpoint writes a file for each process and says in `.metadata` what is where. An entry holds the
rows of one process's units; its key tells which.
"""

import pickle
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from outrageous.errors import UserError
from outrageous.parallel.processes import Processes
from outrageous.parallel.shards import Shard


def save_shards(folder: Path, state: dict[str, Tensor], shards: dict[str, Shard], processes: Processes) -> None:
    """Writes state, of this process's units; to be called by all processes, with a folder that does not exist yet.

    Raises:
        UserError: on all of them, if one cannot write; there is no folder then.
    """
    entries = {f"{shards[name].first} {shards[name].last} {name}": value for name, value in state.items()}
    try:
        save(entries, storage_writer=_Writer(folder), no_dist=processes.size == 1)
    except CheckpointException as error:
        if processes.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        rank, (reason, _) = next(iter(error.failures.items()))
        why = reason.strerror if isinstance(reason, OSError) else str(reason).strip().split("\n")[0]
        raise UserError(f"process {rank} cannot write its experts to checkpoint {folder}: {why}") from error


class _Writer(FileSystemWriter):
    """Tells the others the disk's own error, where torch would tell them what followed from it."""

    def write_data(self, *arguments: Any) -> Any:
        try:
            return super().write_data(*arguments)
        except RuntimeError as error:
            raise error.__context__ if isinstance(error.__context__, OSError) else error from error


def load_shards(folder: Path, processes: Processes) -> dict[str, Tensor]:
    """What `save_shards` wrote, of the units of this process among these, on the CPU.

    Raises:
        UserError: a file is missing or truncated.
    """
    reader = FileSystemReader(folder)
    metadata = _metadata(folder, reader)
    entries: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for key in metadata.state_dict_metadata:
        first, last, name = key.split(" ", 2)
        entries[name].append((int(first), int(last), key))
    state = {}
    for name, of_name in entries.items():
        num_units = max(end for _, end, _ in of_name)
        shard = Shard.of(num_units, processes.rank, processes.size)
        parts = []
        for start, end, key in sorted(of_name):
            low, high = max(start, shard.first), min(end, shard.last)
            if low < high:
                rows = _read(reader, metadata, key)
                each = len(rows) // (end - start)
                parts.append(rows[(low - start) * each : (high - start) * each])
        state[name] = torch.cat(parts)
    return state


def _read(reader: FileSystemReader, metadata: Metadata, key: str) -> Tensor:
    entry = metadata.state_dict_metadata[key]
    assert isinstance(entry, TensorStorageMetadata)
    rows = torch.empty(entry.size, dtype=entry.properties.dtype)
    load({key: rows}, storage_reader=reader, no_dist=True)
    return rows


def _metadata(folder: Path, reader: FileSystemReader) -> Metadata:
    """Checked against the files: they are as long as it says."""
    try:
        metadata = reader.read_metadata()
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{folder / '.metadata'} of a checkpoint is missing or damaged: {_REMEDY}") from error
    ends: dict[str, int] = defaultdict(int)
    for stored in metadata.storage_data.values():
        ends[stored.relative_path] = max(ends[stored.relative_path], stored.offset + stored.length)
    for name, end in ends.items():
        path = folder / name
        if not path.exists():
            raise UserError(f"{path} of a checkpoint is missing: {_REMEDY}")
        if path.stat().st_size < end:
            raise UserError(
                f"{path} of a checkpoint is truncated, {path.stat().st_size} bytes instead of {end}: {_REMEDY}"
            )
    return metadata


_REMEDY = "restore it, or delete the run's .ckpt files to start anew"
