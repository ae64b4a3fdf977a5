"""What a prepared parallel corpus is like, to read, and the numbers to draw it from."""

from __future__ import annotations

import numpy as np

from outrageous.data.build import PARTS
from outrageous.data.inspection import Profile, coverage, histogram, joined, num_of_length
from outrageous.data.packed_pairs import SIDES, packed_file
from outrageous.data.packing import read_chunks, tokens_of
from outrageous.data.pair_texts import LEFT_OUT
from outrageous.data.parallel_corpus import ParallelCorpus
from outrageous.data.wordpieces import SPECIAL


def profile(corpus: ParallelCorpus) -> Profile:
    """Of the wordpieces of both sides; lengths of training sources (tokens of languages included) and targets."""
    counts = np.zeros(len(corpus.vocabulary), np.int64)
    for side in SIDES:
        for chunk in read_chunks(packed_file(corpus.folder, "train", side)):
            counts += np.bincount(tokens_of(chunk), minlength=len(counts))
    num_marks = len(SPECIAL) + len(corpus.vocabulary.languages)
    pieces = counts[num_marks:]
    return Profile(
        unit="wordpieces",
        lengths={f"training {side}s": num_of_length(getattr(corpus.train, side)) for side in SIDES},
        counts=np.sort(pieces[pieces > 0])[::-1],
        num_units=int(pieces.sum() + counts[corpus.vocabulary.unk_id]),
    )


def describe(corpus: ParallelCorpus, of: Profile, num_samples: int = 5) -> str:
    """Fingerprint, counts and what was left out, coverage of the wordpieces, lengths, and some pairs of training, drawn
    with a fixed seed."""
    histograms = [histogram(of, name) for name in of.lengths]
    return joined(_counts(corpus), coverage(of), *histograms, _samples(corpus, num_samples))


def _counts(corpus: ParallelCorpus) -> list[str]:
    lines = [
        f"fingerprint {corpus.fingerprint}; {len(corpus.vocabulary):,} wordpieces, "
        f"fingerprint {corpus.vocabulary.fingerprint}",
        "",
        f"{'part':6}{'':7}{'pairs':>12}{'source pieces':>16}{'target pieces':>16}{'unknown':>10}   left out",
    ]
    for part in PARTS:
        for name, counts in corpus.meta["parts"][part].items():
            left_out = ", ".join(f"{counts[reason]:,} {reason}" for reason in LEFT_OUT if counts[reason]) or "none"
            lines.append(
                f"{part:6}{name:7}{counts['pairs']:>12,}{counts['source_pieces']:>16,}{counts['target_pieces']:>16,}"
                f"{counts['source_unknown'] + counts['target_unknown']:>10,}   {left_out}"
            )
    return lines


def _samples(corpus: ParallelCorpus, count: int) -> list[str]:
    drawn = np.random.default_rng(0).choice(len(corpus.train), min(count, len(corpus.train)), replace=False)
    sources, targets = (corpus.vocabulary.decode(getattr(corpus.train, side).gather(drawn).tolist()) for side in SIDES)
    return ["some of training"] + [f"  {source}\n    {target}" for source, target in zip(sources, targets, strict=True)]
