"""What holds for every test: one thread, no network, no window, the same random numbers each time."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

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

SYLLABLES = ("ba", "ko", "ri", "tu", "ne", "sha", "lo", "mi")

torch.set_num_threads(1)

# Derandomised: a failure on one machine is a failure on all. No deadline: the first example pays for warm-up.
settings.register_profile("outrageous", deadline=None, derandomize=True, max_examples=25, print_blob=True)
settings.load_profile("outrageous")


@pytest.fixture(autouse=True)
def same_start() -> None:
    """Every test starts from the same state of the process, whichever tests ran before it."""
    torch.set_flush_denormal(False)  # training sets it, and hypothesis refuses to draw floats where it is set
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that gives a file system of its own of some size, as `64k`, and called again changes its size; skips
    the test where none can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")

    def of_size(size: str) -> Path:
        options = f"size={size}" if not folder.is_mount() else f"remount,size={size}"
        if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", folder]).returncode:
            pytest.skip("a small file system cannot be mounted here")
        return folder

    yield of_size
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 sentences of 3 to 14 words of a vocabulary of 64, drawn by Zipf's law."""
    draw = random.Random(0)
    words = [first + second for first in SYLLABLES for second in SYLLABLES]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    lines = [" ".join(draw.choices(words, weights, k=draw.randint(3, 14))) for _ in range(400)]
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_corpus(text: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings for runs on `text` that take a second or two: 16 batches an epoch."""
    return [
        "scale=smoke",
        "data=text",
        f"data.path={text}",
        "data.block_lines=10",
        "data.dev_fraction=0.1",
        "data.test_fraction=0.1",
        "data.min_count=1",
        "model.num_sampled=16",
        "trainer.max_steps=-1",
        "trainer.words_per_batch=200",
        "trainer.num_threads=1",
        "trainer.accelerator=cpu",
        f"paths.corpora={tmp_path_factory.mktemp('corpora')}",
    ]


@pytest.fixture(scope="session")
def tiny_pairs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings for translation runs of six steps, 8 experts, on 200 pairs of some words and the same in capitals."""
    folder = tmp_path_factory.mktemp("pairs")
    words = ("cat", "dog", "bird", "house", "tree", "river", "stone", "wind", "fire", "snow")
    texts = [" ".join(words[i // 10**k % 10] for k in range(3 + i % 3)) for i in range(200)]  # no two are alike
    (folder / "pairs.tsv").write_text("".join(f"{text}\t{text.upper()}\n" for text in texts), encoding="utf-8")
    return [
        "experiment=mt/moe_32",
        "scale=smoke",
        "model.moe.num_experts=8",
        "data=pairs",
        f"data.path={folder / 'pairs.tsv'}",
        "data.directions=[en-de]",
        "data.vocabulary_size=90",
        "data.block_lines=10",
        "data.dev_fraction=0.1",
        "data.test_fraction=0.1",
        "trainer.words_per_batch=400",
        "trainer.max_steps=6",
        "trainer.validate_every=3",
        "trainer.log_every=3",
        "trainer.num_threads=1",
        "trainer.accelerator=cpu",
        f"paths.corpora={folder / 'corpora'}",
    ]


@pytest.fixture(scope="session")
def trained_translation(tiny_pairs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the tiny pairs."""
    from outrageous.commands.compose import translation_config
    from outrageous.training.run import run

    runs = tmp_path_factory.mktemp("translation_runs")
    return run(translation_config([*tiny_pairs, f"paths.runs={runs}"]), row=None)[1].path
