"""A corpus: prepared once, in a folder named by a fingerprint of all that shaped it, and opened at once ever after."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outrageous.config import CorpusConfig, Source
from outrageous.data.build import PARTS
from outrageous.data.packing import PackedSentences
from outrageous.data.prepared import META, prepare_once
from outrageous.data.sources import find_recipe
from outrageous.data.text import TOKENISERS
from outrageous.data.vocabulary import Vocabulary
from outrageous.errors import UserError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus.

    Attributes:
        fingerprint: hash of the configuration, the format and the source files' bytes, the same on every machine.
        meta: what `meta.json` says: sources, blocks held out, duplicates dropped, and for each part the number of
            sentences, words, predicted tokens (words and one `</s>` per sentence) and out-of-vocabulary words.
    """

    vocabulary: Vocabulary
    train: PackedSentences
    dev: PackedSentences
    test: PackedSentences
    fingerprint: str
    meta: dict[str, Any]


def prepare_corpus(config: CorpusConfig, folder: Path, vocabulary: Vocabulary | None = None) -> Corpus:
    """Open the prepared corpus under `folder`, preparing it first if no earlier call has.

    vocabulary: a trained model's, to number the words by; None for that of the training part.

    Safe to call from several processes at once: one prepares, the others wait. An interrupted preparation leaves
    nothing that passes for a finished one.

    Raises:
        UserError: a mistake in the configuration or the text; a damaged or unwritable folder.
    """
    _check(config)
    recipe = find_recipe(config, folder, given_vocabulary=vocabulary is not None)
    identity = recipe.identity | {"format_version": FORMAT_VERSION}
    if vocabulary is not None:
        identity["vocabulary"] = vocabulary.fingerprint

    def build(part: Path) -> dict[str, Any]:
        if vocabulary is not None:
            vocabulary.save(part / "vocabulary.txt")  # in whose place no other is made
        return recipe.build(part)

    target = prepare_once(folder, config.name, identity, build, recipe.steps)
    return _open(target)


def _check(config: CorpusConfig) -> None:
    """Refuse what can be refused before the text is read."""
    if config.tokeniser not in TOKENISERS:
        raise UserError(f"data.tokeniser={config.tokeniser!r} is unknown: choose {' or '.join(TOKENISERS)}")
    if config.block_lines < 1 or config.min_count < 1:
        raise UserError(
            f"data.block_lines={config.block_lines} and data.min_count={config.min_count} must be at least 1"
        )
    if config.max_rows is not None and config.max_rows < 1:
        raise UserError(f"data.max_rows={config.max_rows} must be at least 1, or null for all rows")
    if config.max_size is not None and config.max_size < 4:
        raise UserError(f"data.max_size={config.max_size} must be at least 4: <s>, </s>, <unk> and a word")
    if config.source is Source.shards:
        _check_shards(config)
    elif config.source is not Source.synthetic:
        _check_split(config)


def _check_shards(config: CorpusConfig) -> None:
    if config.tokeniser != "whitespace":
        raise UserError(
            f"data.tokeniser={config.tokeniser}: shards are tokenised already; set data.tokeniser=whitespace"
        )
    if config.dev_path is None or config.test_path is None:
        raise UserError("data.source=shards: name the files held out, data.dev_path=… and data.test_path=…")


def _check_split(config: CorpusConfig) -> None:
    fractions = config.dev_fraction, config.test_fraction
    named = bool(config.dev_blocks or config.test_blocks)
    if named is not (fractions == (None, None)) or (not named and None in fractions):
        raise UserError(
            "hold out either the blocks named in data.dev_blocks and data.test_blocks, or the shares "
            "data.dev_fraction and data.test_fraction: one pair or the other"
        )
    shares = [fraction for fraction in fractions if fraction is not None]
    if any(share <= 0 for share in shares) or sum(shares) >= 1:
        raise UserError(f"data.dev_fraction and data.test_fraction, {shares}, must be above 0 and sum to below 1")


def _open(target: Path) -> Corpus:
    try:
        meta = json.loads((target / META).read_text(encoding="utf-8"))
        vocabulary = Vocabulary.load(target / "vocabulary.txt")
        parts = {part: PackedSentences(target / f"{part}.arrow", vocabulary.bos_id) for part in PARTS}
        for part, sentences in parts.items():
            counts = meta["parts"][part]
            if (len(sentences), sentences.num_predicted_tokens) != (counts["sentences"], counts["predicted_tokens"]):
                raise UserError(f"{part}.arrow does not hold what meta.json says")
        if len(vocabulary) != meta["vocabulary_size"]:
            raise UserError("vocabulary.txt does not hold what meta.json says")
        return Corpus(vocabulary, **parts, fingerprint=meta["fingerprint"], meta=meta)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the prepared corpus {target} is damaged ({error}); delete that folder and try again"
        ) from error
