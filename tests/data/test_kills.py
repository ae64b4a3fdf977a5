"""Preparation killed at random moments, twenty times in a row: what comes out in the end is what always comes out."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outrageous.data.generated import HELD_OUT, TRAINING, generate

NUM_KILLS = 20
COMMAND = """
import sys
from outrageous.commands.data import main
from outrageous.data import pair_texts, workers
workers.WORTH_PROCESSES = 0
pair_texts.ROWS_PER_SHARD = 500
main(["prepare", *sys.argv[1:]])
"""


def shards(folder: Path) -> list[str]:
    """Settings of a generated corpus of 99 + 2 files."""
    generate(folder, num_words=200_000, num_types=5_000, seed=0)
    dev, test = (folder / HELD_OUT.format(number) for number in (1, 0))
    training = str(folder / TRAINING.format(0)).replace("00000-of", "*-of")
    return ["data=lm1b", f"data.path={training}", f"data.dev_path={dev}", f"data.test_path={test}"]


def pairs(folder: Path) -> list[str]:
    """Settings of a generated corpus of 5,000 pairs, in both directions."""
    folder.mkdir()
    draw = random.Random(0)
    words = [f"{first}{second}" for first in "bdfghklmnprst" for second in ("ad", "el", "in", "or", "uk")]
    rows = [" ".join(draw.choices(words, k=draw.randint(3, 20))) for _ in range(5_000)]
    (folder / "pairs.tsv").write_text("".join(f"{row}\t{row[::-1]}\n" for row in rows))
    return [
        *("experiment=mt/moe_0", "scale=smoke", "data=pairs", f"data.path={folder}/pairs.tsv"),
        *("data.directions=[en-de,de-en]", "data.columns=[en,de]", "data.vocabulary_size=200"),
    ]


def start(settings: list[str], corpora: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *settings, f"paths.corpora={corpora}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def content(corpora: Path) -> dict[str, bytes]:
    (target,) = (folder for folder in corpora.iterdir() if not folder.name.startswith("."))
    return {file.name: file.read_bytes() for file in target.iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("make", [shards, pairs])
def test_twenty_kills_in_a_row_change_nothing(make: Callable[[Path], list[str]], tmp_path: Path) -> None:
    """Until it is killed each call has as long as a whole one takes, at most, so that every step is hit."""
    settings, corpora = make(tmp_path / "text"), tmp_path / "corpora"
    begin = time.monotonic()
    assert start(settings, corpora).wait() == 0
    seconds = time.monotonic() - begin
    undisturbed = content(corpora)
    shutil.rmtree(corpora)
    draw = random.Random(0)
    num_kills = 0
    while num_kills < NUM_KILLS:
        with start(settings, corpora) as process:
            time.sleep(draw.uniform(0.2, 1.0) * seconds)
            finished = process.poll() is not None
            process.kill()
        num_kills += not finished
        if finished:
            assert content(corpora) == undisturbed
            shutil.rmtree(corpora)
    assert start(settings, corpora).wait() == 0
    assert content(corpora) == undisturbed
