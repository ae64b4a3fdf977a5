"""The making of a prepared corpus: split by blocks, tokenise, count, number and pack.

The tokenised parts pass through text files, so a corpus need not fit in memory; only its vocabulary and the held-out
sentences must.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from outrageous.config import CorpusConfig
from outrageous.data.packing import write_packed
from outrageous.data.split import Assignment, assign_drawn, assign_named, duplicate_key, num_blocks
from outrageous.data.text import make_tokeniser, read_lines
from outrageous.data.vocabulary import Vocabulary
from outrageous.errors import UserError

PARTS = ("train", "dev", "test")


def build_corpus(config: CorpusConfig, files: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Write `vocabulary.txt`, if it is not there, and a packed `<part>.arrow` for each part into `folder`; returns the
    counts.

    Raises:
        UserError: a mistake in the text, or a configuration that does not fit it.
    """
    sentences_of = {name: sum(1 for _ in read_lines(file)) for name, file in files.items()}
    assignment = _assign(config, sentences_of)
    word_counts, num_train = _tokenise(config, files, assignment, sum(sentences_of.values()), folder)
    vocabulary_file = folder / "vocabulary.txt"
    if vocabulary_file.exists():
        vocabulary = Vocabulary.load(vocabulary_file)
    else:
        vocabulary = Vocabulary.from_counts(word_counts, num_train, config.min_count, config.max_size)
        vocabulary.save(vocabulary_file)
    in_training = _keys_in_training(folder)
    held_out_blocks: dict[str, dict[str, list[int]]] = {"dev": {}, "test": {}}
    for (name, block), part in sorted(assignment.items()):
        held_out_blocks[part].setdefault(name, []).append(block)
    return {
        "sentences_of_source": sentences_of,
        "held_out_blocks": held_out_blocks,
        "vocabulary_size": len(vocabulary),
        "parts": {part: _pack(folder, part, vocabulary, set() if part == "train" else in_training) for part in PARTS},
        "sacremoses": importlib.metadata.version("sacremoses"),
    }


def _assign(config: CorpusConfig, sentences_of: dict[str, int]) -> Assignment:
    for name, count in sentences_of.items():
        if not count:
            raise UserError(f"there is no text in {name}, which data.path={config.path!r} names")
    blocks_of = {name: num_blocks(count, config.block_lines) for name, count in sentences_of.items()}
    if config.dev_fraction is None or config.test_fraction is None:
        return assign_named(blocks_of, config.dev_blocks, config.test_blocks)
    return assign_drawn(blocks_of, config.dev_fraction, config.test_fraction, config.split_seed)


def _tokenise(
    config: CorpusConfig, files: dict[str, Path], assignment: Assignment, num_sentences: int, folder: Path
) -> tuple[Counter[str], int]:
    """Write each part's sentences to `<part>.txt`, one a line, a space between words.

    Returns:
        How often each word occurs in the training part, and the number of sentences there.
    """
    tokenise = make_tokeniser(config.tokeniser)
    word_counts: Counter[str] = Counter()
    num_train = 0
    with ExitStack() as stack:
        outputs = {part: stack.enter_context(_open_tokenised(folder, part, "w")) for part in PARTS}
        seconds = 0.1 if sys.stderr.isatty() else 10  # a log file wants few lines
        bar = stack.enter_context(
            tqdm(total=num_sentences, desc="Tokenising", unit=" sentences", unit_scale=True, mininterval=seconds)
        )
        for name, file in files.items():
            for number, line in enumerate(read_lines(file)):
                part = assignment.get((name, number // config.block_lines), "train")
                words = tokenise(line)
                outputs[part].write(" ".join(words) + "\n")
                if part == "train":
                    word_counts.update(words)
                    num_train += 1
                bar.update()
    return word_counts, num_train


def _read_tokenised(folder: Path, part: str) -> Iterator[list[str]]:
    with _open_tokenised(folder, part, "r") as stream:
        for line in stream:
            yield line.split()


def _open_tokenised(folder: Path, part: str, mode: str) -> IO[str]:
    return (folder / f"{part}.txt").open(mode, encoding="utf-8", newline="\n")


def _keys_in_training(folder: Path) -> set[str]:
    """Duplicate keys of the held-out sentences that stand in the training part too."""
    held_out = {duplicate_key(words) for part in PARTS[1:] for words in _read_tokenised(folder, part)}
    return held_out.intersection(map(duplicate_key, _read_tokenised(folder, "train")))


def _pack(folder: Path, part: str, vocabulary: Vocabulary, drop: set[str]) -> dict[str, int]:
    """Turn `<part>.txt` into `<part>.arrow`, leaving out sentences whose duplicate key is in `drop`.

    Returns:
        Counts of what was written and of `duplicates_dropped`.
    """
    counts = dict.fromkeys(("sentences", "words", "predicted_tokens", "oov", "duplicates_dropped"), 0)

    def rows() -> Iterator[list[int]]:
        for words in _read_tokenised(folder, part):
            if drop and duplicate_key(words) in drop:
                counts["duplicates_dropped"] += 1
                continue
            ids = vocabulary.encode(words)
            counts["sentences"] += 1
            counts["words"] += len(ids)
            counts["oov"] += ids.count(vocabulary.unk_id)
            yield [*ids, vocabulary.eos_id]

    write_packed(folder / f"{part}.arrow", rows())
    (folder / f"{part}.txt").unlink()
    if not counts["sentences"]:
        raise UserError(f"the {part} part is empty: every sentence of it also stands in the training part")
    counts["predicted_tokens"] = counts["words"] + counts["sentences"]
    return counts
