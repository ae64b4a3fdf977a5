"""Work in a process of its own."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from outrageous.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


def in_own_process(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What `work`, importable by name, returns in a fresh process. That process may start others, as loaders of batches
    for a GPU do: it is no daemon, as those of `multiprocessing.Pool` are.

    Raises what `work` raises, and UserError if the system ends the process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__, "torch._dynamo"])  # once, what takes seconds
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(work, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise UserError("the process that measured was ended, for too much memory, it seems") from error
