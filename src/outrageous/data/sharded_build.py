"""The making of a prepared corpus from files of tokenised text, by several processes.

Every step is a file that is there whole or not at all, so a build that was killed goes on behind the last of them:
counts of each training shard -> vocabulary -> each shard as ids -> one file for each part.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from outrageous.config import CorpusConfig
from outrageous.data.packing import PackedSentences, read_chunks, tokens_of, write_chunks
from outrageous.data.prepared import META
from outrageous.data.shards import count_shard, encode_shard, read_counts
from outrageous.data.vocabulary import UNK, Vocabulary
from outrageous.data.workers import for_each_file
from outrageous.errors import UserError

MOST_TYPES = 8_000_000  # different words in memory at a time, some 200 bytes each; One Billion Word has 2.4 million
Parts = dict[str, dict[str, Path]]
"""The files of each part by their name."""


def build_from_shards(config: CorpusConfig, parts: Parts, folder: Path) -> dict[str, Any]:
    """Write `vocabulary.txt` and a packed `<part>.arrow` for each part into `folder`; returns the counts.

    Raises:
        UserError: a mistake in the text, or a configuration that does not fit it.
    """
    vocabulary_file = folder / "vocabulary.txt"
    if vocabulary_file.exists():
        vocabulary = Vocabulary.load(vocabulary_file)
    else:
        counts, num_sentences = _count(parts["train"], folder)
        vocabulary = Vocabulary.from_counts(counts, num_sentences, config.min_count, config.max_size)
        del counts  # hundreds of megabytes, which the encoding processes may need
        vocabulary.save(vocabulary_file)
    targets = {part: _targets(folder, part, files, "ids") for part, files in parts.items()}
    tasks = [
        (file, target)
        for part, files in parts.items()
        for file, target in zip(files.values(), targets[part], strict=True)
    ]
    for_each_file(encode_shard, tasks, vocabulary_file, title="Encoding")
    for part, shards in targets.items():
        write_chunks(folder / f"{part}.arrow", (chunk for shard in shards for chunk in read_chunks(shard)))
    return {
        "files_of_part": {part: list(files) for part, files in parts.items()},
        "vocabulary_size": len(vocabulary),
        "parts": {part: _count_part(folder / f"{part}.arrow", part, vocabulary) for part in parts},
    }


def steps_to_shards(folder: Path) -> list[Path]:
    """Files that are not of the corpus: passed from step to step, or left half-written by a process that was killed."""
    return [file for file in folder.iterdir() if file.suffix not in (".arrow", ".txt") and file.name != META]


def _count(files: dict[str, Path], folder: Path) -> tuple[Counter[str], int]:
    """Counts of all words of these files, and the number of their sentences."""
    targets = _targets(folder, "train", files, "counts")
    for_each_file(count_shard, list(zip(files.values(), targets, strict=True)), title="Counting words")
    total: Counter[str] = Counter()
    num_sentences = 0
    for target in targets:
        sentences, counts = read_counts(target)
        num_sentences += sentences
        total.update(counts)
        forget_rarest(total, MOST_TYPES)
    return total, num_sentences


def forget_rarest(counts: Counter[str], most_types: int) -> None:
    """Beyond `most_types` words, count the rarer half as unknown: what a text as large as the web asks for, whose most
    frequent words are the same, and their counts very nearly."""
    if len(counts) > most_types:
        kept = Counter(dict(counts.most_common(most_types // 2)))
        kept[UNK] += counts.total() - kept.total()
        counts.clear()
        counts.update(kept)


def _targets(folder: Path, part: str, files: dict[str, Path], kind: str) -> list[Path]:
    return [folder / f"{part}-{number:05}.{kind}" for number in range(len(files))]


def _count_part(file: Path, part: str, vocabulary: Vocabulary) -> dict[str, int]:
    sentences = PackedSentences(file, vocabulary.bos_id)
    if not len(sentences):
        raise UserError(f"the {part} part is empty: there is no text in its files")
    oov = sum(int((tokens_of(chunk) == vocabulary.unk_id).sum()) for chunk in read_chunks(file))
    return {
        "sentences": len(sentences),
        "words": sentences.num_predicted_tokens - len(sentences),
        "predicted_tokens": sentences.num_predicted_tokens,
        "oov": oov,
        "duplicates_dropped": 0,
    }
