"""A dataset of text from the Hugging Face hub, or a folder of such files, as shards of tokenised text.

The dataset is streamed: only its text is written to disk, a shard at a time, each with how far the stream has come, so
that a process that was killed goes on there. Whole blocks of rows are held out; sentences of theirs that also stand in
training, which the web is full of, are kept.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from outrageous.config import CorpusConfig
from outrageous.data.prepared import Unfinished
from outrageous.data.sharded_build import Parts
from outrageous.data.text import make_tokeniser
from outrageous.data.workers import for_each_file
from outrageous.errors import UserError

ROWS_PER_SHARD = 200_000
PARTS = ("train", "dev", "test")


def fetch(config: CorpusConfig, folder: Path) -> Parts:
    """Stream the dataset into `folder`, and tokenise it there by several processes.

    Raises:
        UserError: there is no such dataset or column, or the network failed.
    """
    if not (folder / "rows.done").exists():
        _stream(config, folder)
    raw = {part: sorted(folder.glob(f"{part}-*.raw")) for part in PARTS}
    if config.tokeniser != "whitespace":
        tasks = [(file, file.with_suffix(".words")) for files in raw.values() for file in files]
        for_each_file(tokenise_shard, tasks, config.tokeniser, title="Tokenising")
        raw = {part: [file.with_suffix(".words") for file in files] for part, files in raw.items()}
    return {part: {file.name: file for file in files} for part, files in raw.items()}


def tokenise_shard(source: Path, target: Path, tokeniser: str) -> None:
    """Write the lines of `source` with a space between words; the target is made whole or not at all."""
    tokenise = make_tokeniser(tokeniser)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    with source.open(encoding="utf-8", newline="\n") as lines, part.open("w", encoding="utf-8", newline="\n") as words:
        words.writelines(" ".join(tokenise(line)) + "\n" for line in lines)
    part.replace(target)


def _stream(config: CorpusConfig, folder: Path) -> None:
    dataset = _open(config)
    position = folder / "rows.state"  # of the next shard
    number = 0
    if position.exists():
        number, state = json.loads(position.read_text())
        dataset.load_state_dict(state)
    rows = iter(dataset)
    with tqdm(desc="Fetching", unit=" rows", unit_scale=True, initial=number * ROWS_PER_SHARD) as bar:
        while texts := list(islice(_texts(rows, config), ROWS_PER_SHARD)):
            _write_shard(texts, number, config, folder)
            number += 1
            unfinished = folder / ".rows.state"
            unfinished.write_text(json.dumps([number, dataset.state_dict()]))
            unfinished.replace(position)
            bar.update(len(texts))
    (folder / "rows.done").touch()


def _open(config: CorpusConfig) -> Any:
    import datasets

    try:
        return datasets.load_dataset(
            config.path, config.subset, split=config.split, revision=config.revision, streaming=True
        )
    except (OSError, ValueError) as error:  # all that datasets says of a dataset, subset or split is one of these
        reason = str(error).strip().split("\n")[0]
        raise Unfinished(f"cannot open the dataset data.path={config.path}: {reason}") from error


def _texts(rows: Iterator[dict[str, Any]], config: CorpusConfig) -> Iterator[str]:
    assert config.column is not None
    while (row := _next(rows, config)) is not None:
        text = row.get(config.column)
        if not isinstance(text, str):
            raise UserError(
                f"data.column={config.column}: {config.path} has no text there; its columns are {', '.join(row)}"
            )
        yield text


def _next(rows: Iterator[dict[str, Any]], config: CorpusConfig) -> dict[str, Any] | None:
    try:
        return next(rows, None)
    except Exception as error:  # which one depends on the libraries that carry the file and read its format
        reason = str(error).strip().split("\n")[0]
        raise Unfinished(
            f"the stream of data.path={config.path} broke off: {reason or type(error).__name__}. What came so far is "
            "kept; give the same command again"
        ) from error


def _write_shard(texts: list[str], number: int, config: CorpusConfig, folder: Path) -> None:
    lines: dict[str, list[str]] = {part: [] for part in PARTS}
    for row, text in enumerate(texts, start=number * ROWS_PER_SHARD):
        part = part_of(row // config.block_lines, config)
        lines[part].extend(" ".join(line.split()) for line in text.splitlines() if line.strip())
    for part, sentences in lines.items():
        file = folder / f"{part}-{number:05}.raw"
        unfinished = file.with_name(f".{file.name}")
        unfinished.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8", newline="\n")
        unfinished.replace(file)


def part_of(block: int, config: CorpusConfig) -> str:
    """The part of a block of rows, drawn for each block alone: how many there are is not known."""
    assert config.dev_fraction is not None
    assert config.test_fraction is not None
    draw = random.Random(f"{config.split_seed} {block}").random()
    if draw < config.dev_fraction:
        return "dev"
    return "test" if draw < config.dev_fraction + config.test_fraction else "train"
