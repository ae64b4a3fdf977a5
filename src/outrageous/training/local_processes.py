"""Several processes of this machine that talk over gloo, for benchmarks."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from outrageous.parallel.processes import Processes


def in_processes(function: Callable[..., Any], size: int, *arguments: Any) -> list[Any]:
    """What function(processes, *arguments) returns in each of `size` processes; `function` must be importable by name.

    Raises RuntimeError if one of them fails, which says why on stderr.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])  # once, what takes seconds
    with tempfile.TemporaryDirectory() as folder:
        children = [
            context.Process(target=_child, args=(function, rank, size, Path(folder), arguments)) for rank in range(size)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        if failed := [rank for rank, child in enumerate(children) if child.exitcode]:
            raise RuntimeError(f"of {size} processes these failed: {failed}")
        return [torch.load(_result(Path(folder), rank), weights_only=False) for rank in range(size)]


def use_loopback() -> None:
    """Has gloo connect to this machine alone; the name that a container has for itself is often not to be resolved."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")


def _child(function: Callable[..., Any], rank: int, size: int, folder: Path, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    use_loopback()
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=size)
    torch.save(function(Processes(rank, size), *arguments), _result(folder, rank))
    dist.barrier()  # nobody leaves while another still waits for it


def _result(folder: Path, rank: int) -> Path:
    return folder / f"{rank}.pt"
