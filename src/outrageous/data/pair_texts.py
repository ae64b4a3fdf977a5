"""The text of a parallel corpus: pairs filtered and divided into parts and shards, one file for each direction.

So many rows at a time are a shard, which its counts, written last, declare to be whole: reading that was interrupted
goes on behind the last such shard.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from outrageous.config import ParallelCorpusConfig
from outrageous.data.build import PARTS
from outrageous.data.pairs import PairSource, Row, parse_directions
from outrageous.data.split import duplicate_key

LEFT_OUT = ("empty", "too_long", "ratio", "duplicates")
ROWS_PER_SHARD = 500_000

Counts = dict[str, dict[str, dict[str, int]]]
"""Part -> direction -> `pairs` kept, and how many were left out for each of `LEFT_OUT`."""


def write_texts(config: ParallelCorpusConfig, source: PairSource, folder: Path) -> Counts:
    """Write the training pairs of each direction into shards, dev and test into a file each, in `folder`."""
    counts, num_shards, whole = _so_far(config, folder)
    if not whole:
        start = num_shards * ROWS_PER_SHARD
        seconds = 0.1 if sys.stderr.isatty() else 10  # a log file wants few lines
        bar = tqdm(
            source.rows(start),
            desc="Reading",
            unit=" rows",
            unit_scale=True,
            initial=start,
            total=source.num_rows,
            mininterval=seconds,
        )
        rows = iter(bar)
        while _write_shard(config, islice(rows, ROWS_PER_SHARD), num_shards, folder):
            num_shards += 1
        counts, _, _ = _so_far(config, folder)
    _gather_held_out(counts, source.drops_duplicates, folder)
    return counts


def text_file(folder: Path, part: str, direction: str) -> Path:
    """Where the pairs of dev or test and one direction are as text, source<TAB>target."""
    return folder / f"{part}.{direction}.tsv"


def shards_of_text(folder: Path, part: str, direction: str) -> list[Path]:
    """Where the pairs of one part and direction are until the corpus is packed, in their order."""
    return sorted(folder.glob(f"{part}.{direction}.[0-9]*.tsv"))


def read_pairs(file: Path) -> Iterator[tuple[str, str]]:
    """Source and target of each pair of such a file."""
    with file.open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            source, _, target = line.removesuffix("\n").partition("\t")
            yield source, target


def why_left_out(source: str, target: str, config: ParallelCorpusConfig, part: str) -> str | None:
    """Which of `LEFT_OUT`, but for duplicates, a pair is; None if it stays. Lengths matter in training only."""
    if not source or not target:
        return "empty"
    if part != "train":
        return None
    if max(source.count(" "), target.count(" ")) >= config.max_words:
        return "too_long"
    shorter, longer = sorted((len(source), len(target)))
    return "ratio" if longer > config.max_ratio * shorter else None


def _so_far(config: ParallelCorpusConfig, folder: Path) -> tuple[Counts, int, bool]:
    """Counts and number of the shards that are whole, and whether they are all: the last one has room left."""
    total = _no_counts(config)
    shard: dict[str, Any] = {"rows": ROWS_PER_SHARD}
    number = 0
    while (file := _marker(folder, number)).exists():
        shard = json.loads(file.read_text(encoding="utf-8"))
        for part, of_direction in shard["counts"].items():
            for name, numbers in of_direction.items():
                for reason, count in numbers.items():
                    total[part][name][reason] += count
        number += 1
    return total, number, shard["rows"] < ROWS_PER_SHARD


def _write_shard(config: ParallelCorpusConfig, rows: Iterator[tuple[str, Row]], number: int, folder: Path) -> bool:
    """Whether the shard is full, so that another one follows."""
    directions = parse_directions(config)
    counts = _no_counts(config)
    num_rows = 0
    with ExitStack() as stack:
        outputs = {
            (part, name): stack.enter_context(
                (folder / f"{part}.{name}.{number:05}.tsv").open("w", encoding="utf-8", newline="\n")
            )
            for part in PARTS
            for name in directions
        }
        for part, row in rows:
            num_rows += 1
            for name, (source_language, target_language) in directions.items():
                pair = row[source_language], row[target_language]
                reason = why_left_out(*pair, config, part)
                counts[part][name][reason or "pairs"] += 1
                if reason is None:
                    outputs[part, name].write("\t".join(pair) + "\n")
    unfinished = folder / ".rows.json"
    unfinished.write_text(json.dumps({"rows": num_rows, "counts": counts}), encoding="utf-8")
    unfinished.replace(_marker(folder, number))
    return num_rows == ROWS_PER_SHARD


def _marker(folder: Path, number: int) -> Path:
    return folder / f"rows.{number:05}.json"


def _no_counts(config: ParallelCorpusConfig) -> Counts:
    return {part: {name: dict.fromkeys(("pairs", *LEFT_OUT), 0) for name in config.directions} for part in PARTS}


def _gather_held_out(counts: Counts, drop_duplicates: bool, folder: Path) -> None:
    """Write dev and test of each direction; if so asked without pairs whose source, digits masked, stands in the
    training part, as source or target."""
    held_out = {
        (part, name): [pair for file in shards_of_text(folder, part, name) for pair in read_pairs(file)]
        for part in PARTS[1:]
        for name in counts[part]
    }
    in_training = _keys_in_training(held_out, list(counts["train"]), folder) if drop_duplicates else {}
    for (part, name), pairs in held_out.items():
        known = in_training.get(name.split("-")[0], set())
        kept = [pair for pair in pairs if not known or _key(pair[0]) not in known]
        text = "".join("\t".join(pair) + "\n" for pair in kept)
        text_file(folder, part, name).write_text(text, encoding="utf-8", newline="\n")
        counts[part][name]["pairs"] = len(kept)
        counts[part][name]["duplicates"] = len(pairs) - len(kept)


def _keys_in_training(
    held_out: dict[tuple[str, str], list[tuple[str, str]]], directions: list[str], folder: Path
) -> dict[str, set[str]]:
    """Language -> keys of held-out sources that stand in the training part too."""
    wanted: dict[str, set[str]] = {}
    for (_, name), pairs in held_out.items():
        wanted.setdefault(name.split("-")[0], set()).update(_key(source) for source, _ in pairs)
    found: dict[str, set[str]] = {language: set() for language in wanted}
    for name in directions:
        for pair in (pair for file in shards_of_text(folder, "train", name) for pair in read_pairs(file)):
            for language, sentence in zip(name.split("-"), pair, strict=True):
                if language in wanted and (key := _key(sentence)) in wanted[language]:
                    found[language].add(key)
    return found


def _key(sentence: str) -> str:
    return duplicate_key(sentence.split())
