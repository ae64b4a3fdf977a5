"""A parallel corpus: prepared once, in a folder named by a fingerprint of all that shaped it, and opened ever after."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from outrageous.config import ParallelCorpusConfig
from outrageous.data.build import PARTS
from outrageous.data.hub_pairs import HubPairs
from outrageous.data.packed_pairs import SIDES, PackedPairs
from outrageous.data.pair_texts import read_pairs, text_file
from outrageous.data.pairs import PairFiles, PairSource, parse_directions
from outrageous.data.parallel_build import build_parallel, steps_to_pairs
from outrageous.data.prepared import META, prepare_once
from outrageous.data.wordpieces import Wordpieces
from outrageous.errors import UserError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ParallelCorpus:
    """A prepared parallel corpus.

    Attributes:
        vocabulary: the wordpieces of all its languages.
        weights: `en-de` -> how often a training pair of it comes in an epoch, on average.
        fingerprint: hash of the configuration, the format and the text, the same on every machine.
        meta: what `meta.json` says: sources, what was held out, and for each part and direction the number of pairs,
            of wordpieces on either side (`</s>` included), and of pairs left out and why.
    """

    vocabulary: Wordpieces
    weights: dict[str, float]
    train: PackedPairs
    dev: PackedPairs
    test: PackedPairs
    fingerprint: str
    meta: dict[str, Any]
    folder: Path

    def text(self, part: str, direction: str) -> tuple[list[str], list[str]]:
        """Sources and references of `dev` or `test`, `as_learnt` but not cut, in the order of the packed pairs.

        Raises:
            UserError: the file is not whole.
        """
        try:
            pairs = list(read_pairs(text_file(self.folder, part, direction)))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(_damaged(self.folder, error)) from error
        if len(pairs) != self.meta["parts"][part][direction]["pairs"]:
            raise UserError(_damaged(self.folder, f"{part}.{direction}.tsv does not hold what meta.json says"))
        return [source for source, _ in pairs], [target for _, target in pairs]


def prepare_parallel(config: ParallelCorpusConfig, folder: Path) -> ParallelCorpus:
    """Open the prepared corpus under `folder`, preparing it first if no earlier call has. Safe as `prepare_once` is.

    Raises:
        UserError: a mistake in the configuration or the text; a damaged or unwritable folder.
    """
    _check(config)
    source: PairSource = PairFiles(config) if config.hub is None else HubPairs(config, config.hub)
    settings = {name: value for name, value in asdict(config).items() if name != "weights"}  # they shape no file
    identity = {**settings, **source.identity(), "format_version": FORMAT_VERSION}
    target = prepare_once(
        folder,
        config.name,
        identity,
        lambda part: build_parallel(config, source, part),
        lambda part: steps_to_pairs(config, part),
    )
    return _open(target, config)


def _check(config: ParallelCorpusConfig) -> None:
    """Refuse what can be refused before the text is read."""
    directions = parse_directions(config)
    weights = [1.0] * len(directions) if config.weights is None else config.weights
    if len(weights) != len(directions) or not all(0 < weight < 1000 for weight in weights):
        raise UserError(f"data.weights={config.weights} must be a number above 0 for each of {', '.join(directions)}")
    for name in ("block_lines", "max_words", "wordpiece_sentences"):
        if getattr(config, name) < 1:
            raise UserError(f"data.{name}={getattr(config, name)} must be at least 1")
    if config.max_ratio < 1:
        raise UserError(f"data.max_ratio={config.max_ratio} must be at least 1")
    if config.vocabulary_size < 8:
        raise UserError(f"data.vocabulary_size={config.vocabulary_size} must be at least 8")
    shares = config.dev_fraction, config.test_fraction
    if min(shares) <= 0 or sum(shares) >= 1:
        raise UserError(f"data.dev_fraction and data.test_fraction, {shares}, must be above 0 and sum to below 1")


def _open(target: Path, config: ParallelCorpusConfig) -> ParallelCorpus:
    try:
        meta = json.loads((target / META).read_text(encoding="utf-8"))
        wordpieces = Wordpieces.load(target / "wordpieces.model")
        if wordpieces.fingerprint != meta["wordpieces"]["fingerprint"]:
            raise UserError("wordpieces.model is not the one that meta.json says")
        parts = {}
        for part in PARTS:
            counts = meta["parts"][part]
            parts[part] = PackedPairs(target, part, {name: counts[name]["pairs"] for name in config.directions})
            for side in SIDES:
                pieces = sum(numbers[f"{side}_pieces"] for numbers in counts.values())
                if getattr(parts[part], side).num_predicted_tokens != pieces:
                    raise UserError(f"{part}.{side}.arrow does not hold what meta.json says")
        weights = dict(zip(config.directions, config.weights or [1.0] * len(config.directions), strict=True))
        return ParallelCorpus(wordpieces, weights, **parts, fingerprint=meta["fingerprint"], meta=meta, folder=target)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(_damaged(target, error)) from error


def _damaged(folder: Path, what: object) -> str:
    return f"the prepared corpus {folder} is damaged ({what}); delete that folder and try again"
