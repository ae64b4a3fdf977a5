"""The same work on many files, by several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from outrageous.data.prepared import Unfinished

WORTH_PROCESSES = 1 << 24  # bytes; what is less is done before others have started
MOST_PROCESSES = 8  # each holds a vocabulary and a block of text: some 300 MB with 800,000 words


def num_processes() -> int:
    """As many as this process may use cores, within reason."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return min(len(affinity(0)) if affinity else os.cpu_count() or 1, MOST_PROCESSES)


def for_each_file(
    function: Callable[..., None], tasks: Sequence[tuple[Path, Path, *tuple[Any, ...]]], *arguments: Any, title: str
) -> None:
    """Call `function(*task, *arguments)` for each task whose target is not there yet; a task is source, target, and
    arguments of its own.

    `function` must be importable, and must make its target whole or not at all.

    Raises:
        Unfinished: one of the processes was killed. Otherwise what the function raises.
    """
    left = [task for task in tasks if not task[1].exists()]
    num_bytes, num_left = (sum(source.stat().st_size for source, *_ in some) for some in (tasks, left))
    seconds = 0.1 if sys.stderr.isatty() else 10  # a log file wants few lines
    with tqdm(
        total=num_bytes,
        desc=title,
        unit="B",
        unit_scale=True,
        mininterval=seconds,
    ) as bar:
        bar.update(num_bytes - num_left)
        if len(left) == 1 or num_left < WORTH_PROCESSES or num_processes() == 1:
            for task in left:
                function(*task, *arguments)
                bar.update(task[0].stat().st_size)
        elif left:
            _in_processes(function, left, arguments, bar)


def _in_processes(function: Callable[..., None], tasks: list[Any], arguments: tuple[Any, ...], bar: tqdm[Any]) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    count = min(num_processes(), len(tasks))
    with ProcessPoolExecutor(count, mp_context=context, initializer=_start) as pool:
        futures = {pool.submit(function, *task, *arguments): task[0] for task in tasks}
        try:
            for future in as_completed(futures):
                future.result()
                bar.update(futures[future].stat().st_size)
        except BrokenProcessPool as error:
            raise Unfinished(
                "a process that prepared the corpus was killed, perhaps for want of memory; the same command goes on "
                "with what is not finished"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
