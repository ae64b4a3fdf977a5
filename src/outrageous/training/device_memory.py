"""What a device has too little memory for, in one message."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from outrageous.config import AnyRunConfig
from outrageous.errors import UserError


@contextmanager
def enough_memory(config: AnyRunConfig) -> Iterator[None]:
    """Raises UserError, which says what takes less, where a GPU's memory ends."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        trainer = config.trainer
        raise UserError(
            f"{config.name} does not fit the GPU's memory: set savings=appendix_d, or lower trainer.words_per_batch="
            f"{trainer.words_per_batch} (in evaluation trainer.eval_words_per_batch={trainer.eval_words_per_batch}); "
            f"`outrageous-audit {config.name} --devices 1 trainer=gpu …` tells what settings take"
        ) from error


def reason_of(error: RuntimeError) -> str:
    """Why a step did not end, for a table's cell."""
    if isinstance(error, torch.OutOfMemoryError):
        return "does not fit"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].replace("|", "/")[:200]
