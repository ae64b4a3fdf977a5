"""How much memory a piece of work needs, measured in a process of its own."""

import contextlib
import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any


def peak_memory(work: Callable[..., object], *arguments: Any) -> int:
    """Peak resident bytes of a fresh process that runs `work(*arguments)`, the interpreter and its libraries included.

    `work` must be importable by name. Raises what it raises, and MemoryError if the system ends the process.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_run, work, arguments).result()
        except BrokenProcessPool as error:
            raise MemoryError("the process was ended, for too much memory, it seems") from error


def _run(work: Callable[..., object], arguments: tuple[Any, ...]) -> int:
    work(*arguments)
    return peak_of_this_process()


def peak_of_this_process(status: Path = Path("/proc/self/status")) -> int:
    """Most bytes that were resident at a time, so far."""
    if status.is_file():  # Linux, where getrusage counts the parent's memory too
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> int:
    """From here on the peak of this process is counted anew, where the system is Linux and lets it. Returns the peak
    from here on, which then is what is resident now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_of_this_process()
