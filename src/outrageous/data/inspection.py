"""What a prepared corpus is like, to read, and the numbers to draw it from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from outrageous.data.build import PARTS
from outrageous.data.corpus import Corpus
from outrageous.data.packing import PackedSentences

COVERING = (100, 1_000, 10_000, 100_000, 1_000_000)  # words of the vocabulary, from the most frequent
LENGTHS = (1, 6, 11, 16, 21, 26, 31, 41, 51, 76, 101, 201)  # where the bins of the histogram begin
WIDTH = 50  # characters of its longest bar


@dataclass(frozen=True)
class Profile:
    """What is drawn of a corpus.

    Attributes:
        unit: what sentences consist of: words or wordpieces.
        lengths: name of some sentences -> how many of them have 0, 1, 2, … units, `</s>` not counted.
        counts: of the different units in training, falling, without `<unk>` and marks.
        num_units: in training, `<unk>` included.
    """

    unit: str
    lengths: dict[str, NDArray[np.int64]]
    counts: NDArray[np.int64]
    num_units: int


def profile(corpus: Corpus) -> Profile:
    """Of its words; lengths of the sentences of each part."""
    vocabulary = corpus.vocabulary
    marks = {vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id}
    return Profile(
        unit="words",
        lengths={part: num_of_length(getattr(corpus, part)) for part in PARTS},
        counts=np.array([count for i, count in enumerate(vocabulary.counts) if i not in marks], np.int64),
        num_units=corpus.meta["parts"]["train"]["words"],
    )


def describe(corpus: Corpus, of: Profile, num_samples: int = 5) -> str:
    """Fingerprint, counts, coverage of the vocabulary, lengths of training sentences, and some of these, drawn with a
    fixed seed."""
    return joined(_counts(corpus), coverage(of), histogram(of, "train"), _samples(corpus, num_samples))


def joined(*sections: list[str]) -> str:
    """Lines of sections, with an empty line between these."""
    return "\n\n".join("\n".join(section) for section in sections)


def num_of_length(sentences: PackedSentences) -> NDArray[np.int64]:
    """How many have 0, 1, 2, … tokens before `</s>`."""
    return np.bincount(sentences.lengths - 1)


def coverage(of: Profile) -> list[str]:
    """Which share of training the most frequent units make up."""
    covered = np.cumsum(of.counts) / of.num_units
    sizes = [size for size in COVERING if size < len(of.counts)] + [len(of.counts)]
    heading = f"{of.unit} of training covered by the most frequent"
    return [heading] + [f"{size:>10,}  {covered[size - 1]:7.2%}" for size in sizes]


def histogram(of: Profile, name: str) -> list[str]:
    """How long some of the sentences are."""
    lengths = of.lengths[name]
    counts = [lengths[first:after].sum() for first, after in pairwise((0, *LENGTHS[1:], max(len(lengths), 202)))]
    bins = [f"{first}-{after - 1}" for first, after in pairwise(LENGTHS)] + [f"{LENGTHS[-1]}-"]
    mean = np.average(np.arange(len(lengths)), weights=lengths)
    lines = [f"{of.unit} of a sentence ({name}): mean {mean:.1f}, longest {len(lengths) - 1:,}"]
    return lines + [
        f"{name:>10}  {count / lengths.sum():6.1%} {'#' * round(WIDTH * count / max(counts))}"
        for name, count in zip(bins, counts, strict=True)
    ]


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


def _samples(corpus: Corpus, count: int) -> list[str]:
    drawn = np.random.default_rng(0).choice(len(corpus.train), min(count, len(corpus.train)), replace=False)
    rows, lengths = corpus.train.gather(drawn), corpus.train.lengths[drawn]
    words = corpus.vocabulary.words
    return ["some of training"] + [
        "  " + " ".join(words[i] for i in row[: length - 1]) for row, length in zip(rows, lengths, strict=True)
    ]
