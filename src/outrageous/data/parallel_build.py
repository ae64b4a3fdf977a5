"""The making of a prepared parallel corpus: filter, split, learn wordpieces, number by several processes, pack.

Pairs pass through text files, so a corpus need not fit in memory; only the sentences that the wordpieces are learnt
from and the held-out pairs must. Every step is a file that is there whole or not at all, so a build that was killed
goes on behind the last of them.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from outrageous.config import ParallelCorpusConfig
from outrageous.data.build import PARTS
from outrageous.data.packed_pairs import SIDES, packed_file
from outrageous.data.packing import packed_chunks, read_chunks, tokens_of, write_chunks, write_shard
from outrageous.data.pair_texts import LEFT_OUT, Counts, read_pairs, shards_of_text, text_file, write_texts
from outrageous.data.pairs import PairSource
from outrageous.data.prepared import META
from outrageous.data.wordpieces import Wordpieces, evenly, learn_wordpieces
from outrageous.data.workers import for_each_file
from outrageous.errors import UserError

LINES_AT_ONCE = 10_000


def build_parallel(config: ParallelCorpusConfig, source: PairSource, folder: Path) -> dict[str, Any]:
    """Write `wordpieces.model`, for each part packed sources and targets, and for dev and test the text of each
    direction into `folder`; returns the counts.

    Raises:
        UserError: a mistake in the text, or a configuration that does not fit it.
    """
    counts = write_texts(config, source, folder)
    _report(counts)
    model = folder / "wordpieces.model"
    if not model.exists():
        _learn(config, counts, folder).save(model)
    wordpieces = Wordpieces.load(model)
    texts = {(part, name): _texts(folder, part, name) for part in PARTS for name in config.directions}
    tasks = [
        (text, _numbered(text, side), side, name)
        for (_, name), files in texts.items()
        for text in files
        for side in SIDES
    ]
    for_each_file(number_texts, tasks, model, title="Numbering")
    for part in PARTS:
        for side in SIDES:
            files = {name: [_numbered(text, side) for text in texts[part, name]] for name in config.directions}
            _pack(files, packed_file(folder, part, side), side, counts[part], wordpieces.unk_id)
    return {
        **source.held_out(),
        "parts": counts,
        "wordpieces": {"size": len(wordpieces), "fingerprint": wordpieces.fingerprint},
        "sentencepiece": importlib.metadata.version("sentencepiece"),
    }


def steps_to_pairs(config: ParallelCorpusConfig, folder: Path) -> list[Path]:
    """Files that are not of the corpus: passed from step to step, or left half-written by a process that was killed."""
    kept = {text_file(folder, part, name) for part in PARTS[1:] for name in config.directions} | {folder / META}
    return [file for file in folder.iterdir() if file.suffix not in (".arrow", ".model") and file not in kept]


def number_texts(text: Path, target: Path, side: str, direction: str, model: Path) -> None:
    """Write one side of the pairs in `text` to `target` as ids, whole or not at all."""
    wordpieces = _wordpieces_of(model)

    def rows() -> Iterator[list[int]]:
        sentences = (pair[SIDES.index(side)] for pair in read_pairs(text))
        while lines := list(islice(sentences, LINES_AT_ONCE)):
            if side == "target":
                yield from wordpieces.encode_targets(lines)
            else:
                yield from wordpieces.encode_sources(lines, target_language=direction.split("-")[1])

    write_shard(target, packed_chunks(rows()))


@lru_cache(maxsize=1)  # a process numbers many texts
def _wordpieces_of(model: Path) -> Wordpieces:
    return Wordpieces.load(model)


def _texts(folder: Path, part: str, direction: str) -> list[Path]:
    """Dev and test are gathered from their shards, without duplicates."""
    return shards_of_text(folder, part, direction) if part == "train" else [text_file(folder, part, direction)]


def _numbered(text: Path, side: str) -> Path:
    return text.with_suffix(f".{side}.ids")


def _report(counts: Counts) -> None:
    """Say what was left out, and refuse a direction of which a part has nothing left."""
    for part, of_direction in counts.items():
        for name, numbers in of_direction.items():
            left_out = ", ".join(f"{numbers[reason]:,} {reason}" for reason in LEFT_OUT if numbers[reason])
            said = f"{name}, {part}: {numbers['pairs']:,} pairs" + (f"; left out: {left_out}" if left_out else "")
            if not numbers["pairs"]:
                raise UserError(f"a part without pairs: {said}")
            print(said, file=sys.stderr)


def _learn(config: ParallelCorpusConfig, counts: Counts, folder: Path) -> Wordpieces:
    targets = list(dict.fromkeys(name.split("-")[1] for name in config.directions))
    num_sentences = 2 * sum(numbers["pairs"] for numbers in counts["train"].values())

    def sentences() -> Iterator[str]:
        for name in counts["train"]:
            for file in shards_of_text(folder, "train", name):
                for pair in read_pairs(file):
                    yield from pair

    most = min(num_sentences, config.wordpiece_sentences)
    print(f"Learning {config.vocabulary_size:,} wordpieces from {most:,} sentences", file=sys.stderr)
    sample = evenly(sentences(), num_sentences, config.wordpiece_sentences)
    return learn_wordpieces(sample, config.vocabulary_size, targets if len(targets) > 1 else ())


def _pack(
    files: dict[str, list[Path]], target: Path, side: str, counts: dict[str, dict[str, int]], unk_id: int
) -> None:
    """Write one side of a part, one direction after the other, and add its numbers of pieces to the counts."""

    def chunks() -> Iterator[pa.Table]:
        for name, shards in files.items():
            num_pieces = num_unknown = 0
            for chunk in (chunk for shard in shards for chunk in read_chunks(shard)):
                tokens = tokens_of(chunk)
                num_pieces += len(tokens)
                num_unknown += int((tokens == unk_id).sum())
                yield chunk
            counts[name] |= {f"{side}_pieces": num_pieces, f"{side}_unknown": num_unknown}

    write_chunks(target, chunks())
