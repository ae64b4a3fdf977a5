"""One process among several that train together, as its surroundings have it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed import DistError

from outrageous.errors import UserError


def is_first_process() -> bool:
    """Whether this process is to write and say what concerns all; before they have met, too."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0  # of torchrun, of srun


@contextmanager
def lost_processes() -> Iterator[None]:
    """Raises UserError where an exchange fails, since another process has ended or cannot be reached."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, DistError) and "gloo" not in str(error):
            raise
        reason = str(error).strip().split("\n")[0].split("] ")[-1][:200]
        lost = UserError(f"lost another process of this run, which has ended or does not answer ({reason})")
        for note in getattr(error, "__notes__", []):
            lost.add_note(note)
        raise lost from error
