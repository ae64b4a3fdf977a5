"""Several processes of this machine that talk over gloo."""

import multiprocessing
import os
import sys
import traceback
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from outrageous.parallel.processes import Processes

Together = Callable[..., list[Any]]


@pytest.fixture
def together(tmp_path: Path) -> Together:
    """A function that calls another, function(processes), in each of `size` forked processes; returns the results,
    but for those that are `killed`."""
    context = multiprocessing.get_context("fork")

    def call(function: Callable[[Processes], Any], size: int, killed: Collection[int] = ()) -> list[Any]:

        def child(rank: int) -> None:
            # As torchrun leaves it to its children.
            as_of_torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
            os.environ.update({name: str(value) for name, value in as_of_torchrun.items()}, TORCHELASTIC_RUN_ID="tests")
            os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
            try:
                dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=size)
                torch.save(function(Processes(rank, size)), tmp_path / f"{rank}.pt")
                if not killed:
                    dist.barrier()  # nobody leaves while another still waits for it
            except BaseException:
                (tmp_path / f"{rank}.txt").write_text(traceback.format_exc())
                raise

        store = tmp_path / uuid.uuid4().hex  # the group makes it, and wants a new one
        children = [context.Process(target=child, args=(rank,)) for rank in range(size)]
        for process in children:
            process.start()
        for process in children:
            process.join()
        errors = [path.read_text() for path in sorted(tmp_path.glob("*.txt"))]
        assert not errors, "\n".join(errors)
        results = [tmp_path / f"{rank}.pt" for rank in range(size) if rank not in killed]
        return [torch.load(path, weights_only=False) for path in results]

    torch.set_num_threads(1)  # children of a process with more would wait for threads that they do not have
    return call
