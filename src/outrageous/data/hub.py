"""A dataset of text from the Hugging Face hub, or a folder of such files, as shards of tokenised text.

The dataset is streamed: only its text is written to disk, a shard at a time, each with how far the stream has come, so
that a process that was killed goes on there. Of one that does not fit the disk, the first `max_rows` rows are taken.
Whole blocks of rows are held out; sentences of theirs that also stand in training, which the web is full of, are kept.
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

ROWS_PER_SHARD = 200_000  # at most, and fewer where they are long:
LETTERS_PER_SHARD = 100_000_000  # held in memory, several times over; a row may be a book
PARTS = ("train", "dev", "test")


def fetch(config: CorpusConfig, folder: Path) -> Parts:
    """Stream the dataset into `folder`, and tokenise it there by several processes.

    Raises:
        UserError: there is no such dataset or column, or the network failed.
    """
    if not (folder / "rows.done").exists():
        _stream(config, folder)
    kind = "raw"
    if config.tokeniser != "whitespace":
        raw = sorted(folder.glob("*.raw"))
        for_each_file(
            tokenise_shard, [(file, file.with_suffix(".words")) for file in raw], config.tokeniser, title="Tokenising"
        )
        for file in raw:  # room for the ids; an interrupted call that finds none is behind this step
            file.unlink()
        kind = "words"
    return {part: {file.name: file for file in sorted(folder.glob(f"{part}-*.{kind}"))} for part in PARTS}


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
    number = first_row = 0
    if position.exists():
        number, first_row, state = json.loads(position.read_text())
        dataset.load_state_dict(state)
    left = None if config.max_rows is None else config.max_rows - first_row
    texts = islice(_texts(iter(dataset), config), left)
    total = config.max_rows or _num_rows(dataset, config)
    with tqdm(desc="Fetching", unit=" rows", unit_scale=True, initial=first_row, total=total) as bar:
        while shard := _next_shard(texts):
            _write_shard(shard, number, first_row, config, folder)
            number += 1
            first_row += len(shard)
            unfinished = folder / ".rows.state"
            unfinished.write_text(json.dumps([number, first_row, dataset.state_dict()]))
            unfinished.replace(position)
            bar.update(len(shard))
    (folder / "rows.done").touch()


def _num_rows(dataset: Any, config: CorpusConfig) -> int | None:
    """As the dataset's own description has it; None where it says nothing."""
    described = (dataset.info.splits or {}).get(config.split)
    return described.num_examples or None if described else None


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


def _next_shard(texts: Iterator[str]) -> list[str]:
    """As many of the next texts as one shard takes, and not one more is asked for."""
    shard: list[str] = []
    num_letters = 0
    while len(shard) < ROWS_PER_SHARD and num_letters < LETTERS_PER_SHARD and (text := next(texts, None)) is not None:
        shard.append(text)
        num_letters += len(text)
    return shard


def _next(rows: Iterator[dict[str, Any]], config: CorpusConfig) -> dict[str, Any] | None:
    try:
        return next(rows, None)
    except Exception as error:  # which one depends on the libraries that carry the file and read its format
        reason = str(error).strip().split("\n")[0]
        raise Unfinished(
            f"the stream of data.path={config.path} broke off: {reason or type(error).__name__}. What came so far is "
            "kept; give the same command again"
        ) from error


def _write_shard(texts: list[str], number: int, first_row: int, config: CorpusConfig, folder: Path) -> None:
    lines: dict[str, list[str]] = {part: [] for part in PARTS}
    for row, text in enumerate(texts, start=first_row):
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
