"""How fast a corpus in the form of One Billion Word is prepared and read, and with how much memory."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from tqdm import tqdm

from outrageous.config import CorpusConfig
from outrageous.data.corpus import prepare_corpus
from outrageous.data.generated import HELD_OUT, TRAINING, generate
from outrageous.data.prepared import META
from outrageous.errors import UserError
from outrageous.training.peak_memory import peak_of_this_process

BYTES_A_WORD = (
    18  # of disk, at most: the text 6; its ids in shards and, while these are put together, once more; counts
)
SECONDS_BETWEEN_LOOKS = 0.2
WORDS_PER_BATCH = 8192
GENERATED = "generated"


@dataclass(frozen=True)
class Reading:
    """
    Attributes:
        first_batch: moment of the monotonic clock at which the first batch was there.
        words_per_second: median over epochs.
        memory: most bytes resident at a time, libraries and pages of the corpus included.
    """

    first_batch: float
    words_per_second: float
    memory: int


def measure_corpora(config: CorpusConfig, sizes: list[int], num_types: int, num_epochs: int) -> dict[str, Any]:
    """Generates a text of each size, prepares it in a fresh process, and reads the last in another.

    Everything lies in a folder under outputs/ that is deleted at the end.

    Args:
        config: of a corpus in shards; its paths are replaced.
        sizes: words of the training parts, rising.

    Raises:
        UserError: the disk has no room for them.
    """
    outputs = Path("outputs")
    outputs.mkdir(exist_ok=True)
    need, free = BYTES_A_WORD * max(sizes) + (1 << 28), shutil.disk_usage(outputs).free
    if free < need:
        raise UserError(
            f"{need / 1e9:.1f} GB are needed in {outputs.resolve()} for {max(sizes):,} words, {free / 1e9:.1f} GB are "
            "free: make room, or lower words=…"
        )
    preparations = []
    with tempfile.TemporaryDirectory(dir=outputs, prefix="bench-data-") as folder:
        for size in sizes:
            text = Path(folder) / str(size)
            tqdm.write(f"{size:,} words")
            generate(text, size, num_types, seed=0)
            there = _placed(config, text)
            preparations.append(_prepare(there, text))
            if size != sizes[-1]:
                shutil.rmtree(text)
        tqdm.write(f"Reading {num_epochs} × {sizes[-1]:,} words in batches of {WORDS_PER_BATCH:,}")
        started = time.monotonic()
        reading = _in_fresh_process(_read, there, text, num_epochs)
    return {
        "preparations": preparations,
        "batches": {
            "words_per_batch": WORDS_PER_BATCH,
            "num_epochs": num_epochs,
            "seconds_to_first": reading.first_batch - started,
            "words_per_second": reading.words_per_second,
            "memory": reading.memory,
        },
    }


def _placed(config: CorpusConfig, text: Path) -> CorpusConfig:
    """The corpus made of the generated files under `text`."""
    training = str(text / TRAINING.format(0)).replace("00000-of", "*-of")
    dev, test = (str(text / HELD_OUT.format(number)) for number in (1, 0))
    return replace(config, name=GENERATED, path=training, dev_path=dev, test_path=test)


def _prepare(config: CorpusConfig, text: Path) -> dict[str, float]:
    """Words, bytes of text, seconds, and the most memory of all processes together, of one preparation."""
    num_bytes = sum(file.stat().st_size for file in text.rglob("news.*"))
    with _Memory() as memory:
        started = time.monotonic()
        _in_fresh_process(prepare_corpus_quietly, config, text)
        seconds = time.monotonic() - started
    (meta,) = text.glob(f"corpora/{GENERATED}-*/{META}")
    words = sum(part["words"] for part in json.loads(meta.read_text())["parts"].values())
    return {"words": words, "bytes": num_bytes, "seconds": seconds, "memory": memory.most}


def prepare_corpus_quietly(config: CorpusConfig, text: Path) -> None:
    """`prepare_corpus`, whose result cannot be handed to another process."""
    prepare_corpus(config, text / "corpora")


def _read(config: CorpusConfig, text: Path, num_epochs: int) -> Reading:
    from outrageous.data.batching import BudgetBatchSampler, make_loader  # imports torch: preparing does without

    loader = make_loader(prepare_corpus(config, text / "corpora").train, WORDS_PER_BATCH, shuffle=True)
    assert isinstance(loader.sampler, BudgetBatchSampler)
    next(iter(loader))
    first = time.monotonic()
    speeds = []
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)
        started = time.monotonic()
        words = sum(batch.num_tokens for batch in tqdm(loader, f"Epoch {epoch + 1}", unit=" batches", mininterval=1))
        speeds.append(words / (time.monotonic() - started))
    return Reading(first, statistics.median(speeds), peak_of_this_process())


def _in_fresh_process(function: Any, *arguments: Any) -> Any:
    """Its start, and the imports that the function needs, count as its work. Raises what the function raises."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


class _Memory:
    """Looks, some times a second, at what all processes started from this one hold together.

    Proportional set size where the system tells it (Linux): pages that several share count once. Resident set size
    elsewhere, which counts them several times. What comes and goes between two looks is missed.
    """

    def __enter__(self) -> _Memory:
        self.most = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(SECONDS_BETWEEN_LOOKS):
            self.most = max(self.most, sum(map(_bytes_of, psutil.Process().children(recursive=True))))


def _bytes_of(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.Error:  # it has just ended
        return 0
    return int(getattr(memory, "pss", memory.rss))
