"""The making of a prepared parallel corpus: filter, split, learn wordpieces, number and pack.

Pairs pass through text files, so a corpus need not fit in memory; only the sentences that the wordpieces are learnt
from and the held-out pairs must.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from outrageous.config import ParallelCorpusConfig
from outrageous.data.build import PARTS
from outrageous.data.packed_pairs import packed_file
from outrageous.data.packing import write_packed
from outrageous.data.pairs import PairSource, parse_directions
from outrageous.data.split import duplicate_key
from outrageous.data.wordpieces import Wordpieces, evenly, learn_wordpieces
from outrageous.errors import UserError

LEFT_OUT = ("empty", "too_long", "ratio", "duplicates")
LINES_AT_ONCE = 10_000

Counts = dict[str, dict[str, dict[str, int]]]
"""Part -> direction -> `pairs` kept, and how many were left out for each of `LEFT_OUT`."""

T = TypeVar("T")


def build_parallel(config: ParallelCorpusConfig, source: PairSource, folder: Path) -> dict[str, Any]:
    """Write `wordpieces.model`, for each part packed sources and targets, and for dev and test the text of each
    direction into `folder`; returns the counts.

    Raises:
        UserError: a mistake in the text, or a configuration that does not fit it.
    """
    counts = _write_texts(config, source, folder)
    if source.drops_duplicates:
        _drop_duplicates(counts, folder)
    _report(counts)
    wordpieces = _learn(config, counts, folder)
    wordpieces.save(folder / "wordpieces.model")
    for part, of_direction in counts.items():
        for side in ("source", "target"):
            _pack(wordpieces, part, side, of_direction, folder)
    for direction in counts["train"]:
        text_file(folder, "train", direction).unlink()
    return {
        **source.held_out(),
        "parts": counts,
        "wordpieces": {"size": len(wordpieces), "fingerprint": wordpieces.fingerprint},
        "sentencepiece": importlib.metadata.version("sentencepiece"),
    }


def text_file(folder: Path, part: str, direction: str) -> Path:
    """Where the pairs of one part and direction are as text, source<TAB>target."""
    return folder / f"{part}.{direction}.tsv"


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


def _write_texts(config: ParallelCorpusConfig, source: PairSource, folder: Path) -> Counts:
    directions = parse_directions(config)
    counts: Counts = {part: {name: dict.fromkeys(("pairs", *LEFT_OUT), 0) for name in directions} for part in PARTS}
    with ExitStack() as stack:
        outputs = {
            (part, name): stack.enter_context(text_file(folder, part, name).open("w", encoding="utf-8", newline="\n"))
            for part in PARTS
            for name in directions
        }
        for part, row in _progress(source.rows(), "Reading", unit=" rows"):
            for name, (source_language, target_language) in directions.items():
                pair = row[source_language], row[target_language]
                reason = why_left_out(*pair, config, part)
                counts[part][name][reason or "pairs"] += 1
                if reason is None:
                    outputs[part, name].write("\t".join(pair) + "\n")
    return counts


def _drop_duplicates(counts: Counts, folder: Path) -> None:
    """Leave out held-out pairs whose source, digits masked, stands in the training part, as source or target."""
    held_out = {
        (part, name): list(read_pairs(text_file(folder, part, name))) for part in PARTS[1:] for name in counts[part]
    }
    wanted: dict[str, set[str]] = {}
    for (_, name), pairs in held_out.items():
        wanted.setdefault(name.split("-")[0], set()).update(_key(source) for source, _ in pairs)
    in_training: dict[str, set[str]] = {language: set() for language in wanted}
    for name in counts["train"]:
        for pair in read_pairs(text_file(folder, "train", name)):
            for language, sentence in zip(name.split("-"), pair, strict=True):
                if language in wanted and (key := _key(sentence)) in wanted[language]:
                    in_training[language].add(key)
    for (part, name), pairs in held_out.items():
        language = name.split("-")[0]
        kept = [pair for pair in pairs if _key(pair[0]) not in in_training[language]]
        text = "".join("\t".join(pair) + "\n" for pair in kept)
        text_file(folder, part, name).write_text(text, encoding="utf-8", newline="\n")
        counts[part][name]["pairs"] = len(kept)
        counts[part][name]["duplicates"] = len(pairs) - len(kept)


def _key(sentence: str) -> str:
    return duplicate_key(sentence.split())


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
            for pair in read_pairs(text_file(folder, "train", name)):
                yield from pair

    sample = evenly(sentences(), num_sentences, config.wordpiece_sentences)
    return learn_wordpieces(sample, config.vocabulary_size, targets if len(targets) > 1 else ())


def _pack(wordpieces: Wordpieces, part: str, side: str, counts: dict[str, dict[str, int]], folder: Path) -> None:
    """Write one side of a part, one direction after the other, and add its numbers of pieces to the counts."""

    def rows() -> Iterator[list[int]]:
        for name, numbers in counts.items():
            num_pieces = num_unknown = 0
            texts = (pair[side == "target"] for pair in read_pairs(text_file(folder, part, name)))
            lines = _progress(texts, f"Numbering {part} {side}s", unit=" sentences", total=numbers["pairs"])
            while chunk := list(islice(lines, LINES_AT_ONCE)):
                for ids in _encode(wordpieces, side, name, chunk):
                    num_pieces += len(ids)
                    num_unknown += ids.count(wordpieces.unk_id)
                    yield ids
            numbers |= {f"{side}_pieces": num_pieces, f"{side}_unknown": num_unknown}

    write_packed(packed_file(folder, part, side), rows())


def _encode(wordpieces: Wordpieces, side: str, direction: str, lines: list[str]) -> list[list[int]]:
    """Ids of sentences of one side, `source` or `target`, of a direction."""
    if side == "target":
        return wordpieces.encode_targets(lines)
    return wordpieces.encode_sources(lines, target_language=direction.split("-")[1])


def _progress(items: Iterable[T], what: str, unit: str, total: int | None = None) -> Iterator[T]:
    seconds = 0.1 if sys.stderr.isatty() else 10  # a log file wants few lines
    return iter(tqdm(items, desc=what, unit=unit, unit_scale=True, total=total, mininterval=seconds))
