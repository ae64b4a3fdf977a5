"""What holds for every test: one thread, no network, no window, the same random numbers each time."""

import os
import random

# Libraries read these when they are imported, and so do the commands that tests start.
os.environ.update(
    OMP_NUM_THREADS="1",
    WANDB_MODE="disabled",
    WANDB_SILENT="true",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    MPLBACKEND="Agg",
)
os.environ.pop("WANDB_API_KEY", None)

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# Derandomised: a failure on one machine is a failure on all. No deadline: the first example pays for warm-up.
settings.register_profile("outrageous", deadline=None, derandomize=True, max_examples=25, print_blob=True)
settings.load_profile("outrageous")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same random state, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - third-party code draws from the global state
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
