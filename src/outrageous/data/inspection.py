"""What a prepared corpus is like, to read."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from outrageous.data.build import PARTS
from outrageous.data.corpus import Corpus

COVERING = (100, 1_000, 10_000, 100_000, 1_000_000)  # words of the vocabulary, from the most frequent
LENGTHS = (1, 6, 11, 16, 21, 26, 31, 41, 51, 76, 101, 201)  # where the bins of the histogram begin
WIDTH = 50  # characters of its longest bar


def describe(corpus: Corpus, num_samples: int = 5) -> str:
    """Fingerprint, counts, coverage of the vocabulary, lengths of training sentences, and some of these, drawn with a
    fixed seed."""
    sections = (_counts(corpus), _coverage(corpus), _lengths(corpus), _samples(corpus, num_samples))
    return "\n\n".join("\n".join(section) for section in sections)


def _counts(corpus: Corpus) -> list[str]:
    lines = [
        f"fingerprint {corpus.fingerprint}; vocabulary {len(corpus.vocabulary):,} entries, "
        f"fingerprint {corpus.vocabulary.fingerprint}",
        "",
        f"{'part':6}{'sentences':>14}{'words':>16}{'predicted':>16}{'unknown words':>22}{'duplicates dropped':>20}",
    ]
    for part in PARTS:
        counts = corpus.meta["parts"][part]
        unknown = f"{counts['oov']:,} ({counts['oov'] / counts['words']:.2%})"
        lines.append(
            f"{part:6}{counts['sentences']:>14,}{counts['words']:>16,}{counts['predicted_tokens']:>16,}"
            f"{unknown:>22}{counts['duplicates_dropped']:>20,}"
        )
    return lines


def _coverage(corpus: Corpus) -> list[str]:
    vocabulary = corpus.vocabulary
    marks = {vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id}
    counts = [count for i, count in enumerate(vocabulary.counts) if i not in marks]  # falling
    covered = np.cumsum(counts) / corpus.meta["parts"]["train"]["words"]
    sizes = [size for size in COVERING if size < len(counts)] + [len(counts)]
    return ["words of training covered by the most frequent"] + [f"{n:>10,}  {covered[n - 1]:7.2%}" for n in sizes]


def _lengths(corpus: Corpus) -> list[str]:
    words = corpus.train.lengths - 1
    counts, _ = np.histogram(words, [0, *LENGTHS[1:], np.inf])
    bars = [round(WIDTH * count / counts.max()) for count in counts]
    bins = [f"{first}-{after - 1}" for first, after in pairwise(LENGTHS)] + [f"{LENGTHS[-1]}-"]
    lines = [f"words of a training sentence: mean {words.mean():.1f}, longest {words.max():,}"]
    return lines + [
        f"{name:>10}  {count / len(words):6.1%} {'#' * bar}"
        for name, count, bar in zip(bins, counts, bars, strict=True)
    ]


def _samples(corpus: Corpus, count: int) -> list[str]:
    drawn = np.random.default_rng(0).choice(len(corpus.train), min(count, len(corpus.train)), replace=False)
    rows, lengths = corpus.train.gather(drawn), corpus.train.lengths[drawn]
    words = corpus.vocabulary.words
    return ["some of training"] + [
        "  " + " ".join(words[i] for i in row[: length - 1]) for row, length in zip(rows, lengths, strict=True)
    ]
