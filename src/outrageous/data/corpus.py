"""A corpus, prepared once: split by blocks, tokenised, numbered and packed in a folder named by a fingerprint of its making."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from outrageous.data.packing import PackedSentences, write_packed
from outrageous.data.split import Assignment, assign_drawn, assign_named, duplicate_key, num_blocks
from outrageous.data.text import file_sha256, find_files, make_tokeniser, read_lines
from outrageous.data.vocabulary import Vocabulary
from outrageous.errors import UserError

FORMAT_VERSION = 1
PARTS = ("train", "dev", "test")


@dataclass
class CorpusConfig:
    """What corpus to prepare and how.

    Attributes:
        name: names the folder of the prepared corpus.
        path: file or glob, or a list of them: UTF-8, one sentence or paragraph per line, plain, .gz or .xz.
        tokeniser: `moses` or `whitespace`.
        min_count: a word of the vocabulary is seen at least this often in the training part.
        max_size: most entries of the vocabulary, `<s> </s> <unk>` included; None for no limit.
        block_lines: sentences per block; each part of the split is made of whole blocks of consecutive sentences of a file.
        dev_blocks, test_blocks: numbers of the blocks held out, by file name; without them blocks are drawn:
        dev_fraction, test_fraction: share of all blocks to draw for each part.
        split_seed: seed of that draw.
    """

    name: str
    path: Any
    tokeniser: str = "moses"
    min_count: int = 3
    max_size: int | None = None
    block_lines: int = 200
    dev_blocks: dict[str, list[int]] = field(default_factory=dict)
    test_blocks: dict[str, list[int]] = field(default_factory=dict)
    dev_fraction: float | None = None
    test_fraction: float | None = None
    split_seed: int = 0


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus.

    Attributes:
        fingerprint: hash of the configuration, the format and the source files' bytes.
        meta: what `meta.json` says: sources, blocks held out, duplicates dropped, and per part the number of sentences, words,
            predicted tokens (words and one `</s>` per sentence) and out-of-vocabulary words.
    """

    vocabulary: Vocabulary
    train: PackedSentences
    dev: PackedSentences
    test: PackedSentences
    fingerprint: str
    meta: dict[str, Any]


def prepare_corpus(config: CorpusConfig, folder: Path) -> Corpus:
    """Open the prepared corpus under `folder`, preparing it first if no earlier call has.

    Safe to call from several processes at once: one prepares, the others wait. An interrupted preparation leaves nothing that
    passes for a finished one.

    Raises:
        UserError: a mistake in the configuration or the text, a damaged or unwritable folder.
    """
    files = find_files(config.path)
    names = [file.name for file in files]
    if len({*names}) != len(names):
        raise UserError(f"data.path gives two files of the same name: {', '.join(map(str, files))}; rename one")
    sources = {file.name: file_sha256(file) for file in files}
    fingerprint = _fingerprint(config, sources)
    target = folder / f"{config.name}-{fingerprint}"
    if not target.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{target.name}.lock"):
                if not target.exists():
                    _prepare(config, files, fingerprint, target)
        except OSError as error:
            raise UserError(f"cannot write the prepared corpus {target}: {error.strerror or error}") from error
    return _open(target)


def _fingerprint(config: CorpusConfig, sources: dict[str, str]) -> str:
    # Where the files lie does not matter, only what they are called and hold.
    made_of = {**asdict(config), "path": sources, "format_version": FORMAT_VERSION}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _prepare(config: CorpusConfig, files: list[Path], fingerprint: str, target: Path) -> None:
    """Prepare in a sibling folder and move it into place when it is whole."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left behind by a process that was killed
    part.mkdir()
    try:
        meta = _build(config, files, part)
        meta |= {"name": config.name, "fingerprint": fingerprint, "format_version": FORMAT_VERSION}
        meta["sources"] = {file.name: file_sha256(file) for file in files}
        (part / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _build(config: CorpusConfig, files: list[Path], folder: Path) -> dict[str, Any]:
    """Write vocabulary and packed parts into `folder`; returns the counts for `meta.json`."""
    sentences_of = {file.name: sum(1 for _ in read_lines(file)) for file in files}
    assignment = _assign(config, sentences_of)
    _tokenise(config, files, assignment, sum(sentences_of.values()), folder)
    word_counts: Counter[str] = Counter()
    num_train = 0
    for words in _read_tokenised(folder, "train"):
        word_counts.update(words)
        num_train += 1
    vocabulary = Vocabulary.from_counts(word_counts, num_train, config.min_count, config.max_size)
    vocabulary.save(folder / "vocabulary.txt")
    duplicated = _keys_in_training(folder)
    parts = {part: _pack(folder, part, vocabulary, duplicated if part != "train" else set()) for part in PARTS}
    return {
        "tokeniser": config.tokeniser,
        "sacremoses": importlib.metadata.version("sacremoses"),
        "vocabulary_size": len(vocabulary),
        "block_lines": config.block_lines,
        "held_out_blocks": {
            part: {
                name: sorted(number for (file, number), p in assignment.items() if (file, p) == (name, part))
                for name in sentences_of
            }
            for part in PARTS[1:]
        },
        "parts": parts,
    }


def _assign(config: CorpusConfig, sentences_of: dict[str, int]) -> Assignment:
    empty = [name for name, count in sentences_of.items() if not count]
    if empty:
        raise UserError(f"data.path={config.path!r}: no text in {', '.join(empty)}")
    if config.block_lines < 1:
        raise UserError(f"data.block_lines={config.block_lines} must be at least 1")
    blocks_of = {name: num_blocks(count, config.block_lines) for name, count in sentences_of.items()}
    named = bool(config.dev_blocks or config.test_blocks)
    if named and config.dev_fraction is None and config.test_fraction is None:
        return assign_named(blocks_of, config.dev_blocks, config.test_blocks)
    if not named and config.dev_fraction is not None and config.test_fraction is not None:
        return assign_drawn(blocks_of, config.dev_fraction, config.test_fraction, config.split_seed)
    raise UserError(
        "hold out either the blocks named in data.dev_blocks and data.test_blocks or the shares data.dev_fraction and "
        "data.test_fraction, not both or half of either"
    )


def _tokenise(
    config: CorpusConfig, files: list[Path], assignment: Assignment, num_sentences: int, folder: Path
) -> None:
    """Write the tokenised sentences of each part to `<part>.txt`, one a line, words apart by one space."""
    tokenise = make_tokeniser(config.tokeniser)
    with ExitStack() as stack:
        outputs = {
            part: stack.enter_context(open(folder / f"{part}.txt", "w", encoding="utf-8", newline="\n"))
            for part in PARTS
        }
        bar = stack.enter_context(tqdm(total=num_sentences, desc="tokenising", unit=" sentences", unit_scale=True))
        for file in files:
            for number, line in enumerate(read_lines(file)):
                part = assignment.get((file.name, number // config.block_lines), "train")
                outputs[part].write(" ".join(tokenise(line)) + "\n")
                bar.update()


def _read_tokenised(folder: Path, part: str) -> Iterator[list[str]]:
    with open(folder / f"{part}.txt", encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield line.split()


def _keys_in_training(folder: Path) -> set[str]:
    """Duplicate keys of held-out sentences that stand in the training part too."""
    held_out = {duplicate_key(words) for part in PARTS[1:] for words in _read_tokenised(folder, part)}
    return held_out & {key for key in map(duplicate_key, _read_tokenised(folder, "train")) if key in held_out}


def _pack(folder: Path, part: str, vocabulary: Vocabulary, duplicated: set[str]) -> dict[str, int]:
    """Turn `<part>.txt` into `<part>.arrow`, without the sentences whose key is in `duplicated`; returns the counts."""
    counts = Counter(sentences=0, words=0, predicted_tokens=0, oov=0, duplicates_dropped=0)

    def rows() -> Iterator[list[int]]:
        for words in _read_tokenised(folder, part):
            if duplicated and duplicate_key(words) in duplicated:
                counts["duplicates_dropped"] += 1
                continue
            ids = vocabulary.encode(words)
            counts.update(sentences=1, words=len(ids), predicted_tokens=len(ids) + 1, oov=ids.count(vocabulary.unk_id))
            yield [*ids, vocabulary.eos_id]

    write_packed(folder / f"{part}.arrow", rows())
    (folder / f"{part}.txt").unlink()
    if not counts["sentences"]:
        raise UserError(f"the {part} part is empty: every sentence of it also stands in the training part")
    return dict(counts)


def _open(target: Path) -> Corpus:
    try:
        meta = json.loads((target / "meta.json").read_text(encoding="utf-8"))
        vocabulary = Vocabulary.load(target / "vocabulary.txt")
        parts = {part: PackedSentences(target / f"{part}.arrow", vocabulary.bos_id) for part in PARTS}
        for part, sentences in parts.items():
            expected = meta["parts"][part]["sentences"], meta["parts"][part]["predicted_tokens"]
            if (len(sentences), sentences.num_predicted_tokens) != expected:
                raise UserError(f"{part}.arrow does not hold what meta.json says")
        if len(vocabulary) != meta["vocabulary_size"]:
            raise UserError("vocabulary.txt does not hold what meta.json says")
        return Corpus(vocabulary, **parts, fingerprint=meta["fingerprint"], meta=meta)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the prepared corpus {target} is damaged ({error}); delete that folder and start again"
        ) from error
