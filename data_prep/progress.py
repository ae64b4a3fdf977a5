"""Progress bars of bytes, with the time left."""

import sys
from typing import Any

from tqdm import tqdm


def bytes_bar(description: str, total: int | None, initial: int = 0) -> Any:
    """A tqdm bar of bytes; `total` None where unknown."""
    seconds = 0.1 if sys.stderr.isatty() else 10  # a log file wants few lines
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit="B",
        unit_scale=True,
        dynamic_ncols=True,
        mininterval=seconds,
    )
