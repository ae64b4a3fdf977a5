"""Perplexity and BLEU of a translation checkpoint, on its own test part or on pairs of the user's."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from outrageous.config import TranslationRunConfig
from outrageous.data.pairs import read_rows
from outrageous.data.parallel_corpus import prepare_parallel
from outrageous.data.wordpieces import Wordpieces
from outrageous.errors import UserError
from outrageous.models.beam_search import BeamSettings
from outrageous.models.gnmt import TranslationModel
from outrageous.results.translation_metrics import perplexity_per_wordpiece
from outrageous.training.checkpoints import check_own
from outrageous.training.libraries import quieten, set_up_cpu
from outrageous.training.translation_test import bleu_of, translate_test
from outrageous.training.translator import MAX_PIECES, Translator, load_model, padded

Pairs = dict[str, tuple[list[str], list[str]]]
"""`en-de` -> sources and references."""


def evaluate_translation(
    config: TranslationRunConfig, checkpoint: Path, pairs: Path | None, direction: str | None
) -> tuple[dict[str, float], str]:
    """dev_perplexity (of the run's own corpus only) and test_perplexity per wordpiece, and BLEU as `bleu_of`; and
    sacreBLEU's signature.

    Args:
        config: of the checkpoint's run.
        pairs: a file of source<TAB>target, all of it the test; None for the dev and test parts of the run's corpus.
        direction: as `en-de`, the only one to test, or that of `pairs`; None for all that the model has.

    Raises:
        UserError: checkpoint, wordpieces or pairs are missing or damaged, or do not fit each other; or the run's corpus
            is not what it was.
    """
    quieten()
    set_up_cpu(config.trainer.num_threads)
    directions = _directions(config, direction)
    if pairs is None:
        parts = _own_corpus(config, checkpoint, directions)
    elif len(directions) == 1:
        parts = {"test": {directions[0]: _read(pairs, directions[0])}}
    else:
        raise UserError(f"pairs={pairs}: in which direction? Give direction=… with one of {', '.join(directions)}")
    model, wordpieces = load_model(config, checkpoint)
    model = model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval()
    if pairs is not None:
        parts["test"] = {name: _without_long(*sides, wordpieces, name) for name, sides in parts["test"].items()}
    budget = config.trainer.eval_words_per_batch
    metrics = {f"{part}_perplexity": _perplexity(model, wordpieces, of, budget) for part, of in parts.items()}
    translator, signature = Translator(model, wordpieces, BeamSettings()), ""
    for name, (sources, references) in parts["test"].items():
        translations = translate_test(translator, sources, name)
        scores, signature = bleu_of(translations, references, name, several=len(parts["test"]) > 1)
        metrics |= scores
    return metrics, signature


def _directions(config: TranslationRunConfig, direction: str | None) -> list[str]:
    if direction is None:
        return config.data.directions
    if direction not in config.data.directions:
        raise UserError(
            f"direction={direction}: {config.name} translates {', '.join(config.data.directions)}; name one of these"
        )
    return [direction]


def _own_corpus(config: TranslationRunConfig, checkpoint: Path, directions: list[str]) -> dict[str, Pairs]:
    corpus = prepare_parallel(config.data, Path(config.paths.corpora))
    check_own(checkpoint, corpus)
    return {part: {name: corpus.text(part, name) for name in directions} for part in ("dev", "test")}


def _read(file: Path, direction: str) -> tuple[list[str], list[str]]:
    """Sources and references of a file; pairs with an empty side are left out, and stderr says how many."""
    source, target = direction.split("-")
    rows = [(row[source], row[target]) for row in read_rows(file, [source, target])]
    whole = [row for row in rows if all(row)]
    if len(whole) < len(rows):
        print(f"{file}: left out {len(rows) - len(whole)} pairs with an empty side", file=sys.stderr)
    if not whole:
        raise UserError(f"{file} has no pairs: give lines of source<TAB>target")
    return [source for source, _ in whole], [target for _, target in whole]


def _without_long(
    sources: list[str], references: list[str], wordpieces: Wordpieces, direction: str
) -> tuple[list[str], list[str]]:
    """Without pairs of more than MAX_PIECES on a side; stderr says how many."""
    sides = zip(
        wordpieces.encode_sources(sources, direction.split("-")[1]), wordpieces.encode_targets(references), strict=True
    )
    kept = [i for i, sides_of_one in enumerate(sides) if max(map(len, sides_of_one)) <= MAX_PIECES]
    if len(kept) < len(sources):
        print(f"left out {len(sources) - len(kept)} pairs of more than {MAX_PIECES} wordpieces", file=sys.stderr)
    if not kept:
        raise UserError(f"every pair has more than {MAX_PIECES} wordpieces on a side: give shorter ones")
    return [sources[i] for i in kept], [references[i] for i in kept]


@torch.no_grad()
def _perplexity(model: TranslationModel, wordpieces: Wordpieces, pairs: Pairs, budget: int) -> float:
    """Per wordpiece, of all directions together, `</s>` predicted and counted."""
    nll, num_predicted = 0.0, 0
    device = model.softmax.weight.device
    for direction, (sources, references) in pairs.items():
        encoded = wordpieces.encode_sources(sources, direction.split("-")[1]), wordpieces.encode_targets(references)
        for batch in _batches(*encoded, budget):
            source, source_mask = padded([encoded[0][i] for i in batch], device)
            targets, mask = padded([encoded[1][i] for i in batch], device)
            inputs = targets.roll(1, dims=1)
            inputs[:, 0] = Wordpieces.bos_id
            hidden, _ = model(source, source_mask, inputs, mask)
            nll += model.softmax.negative_log_likelihood(hidden, targets[mask]).double().sum().item()
            num_predicted += int(mask.sum())
    return perplexity_per_wordpiece(nll, num_predicted)


def _batches(sources: Sequence[list[int]], targets: Sequence[list[int]], budget: int) -> Iterator[list[int]]:
    """Pairs of like lengths, at most `budget` words of both sides, padding included; a larger pair is alone."""
    batch: list[int] = []
    longest = (0, 0)
    for i in sorted(range(len(sources)), key=lambda i: (len(targets[i]), len(sources[i]))):
        longer = max(longest[0], len(sources[i])), max(longest[1], len(targets[i]))
        if batch and (len(batch) + 1) * sum(longer) > budget:
            yield batch
            batch, longer = [], (len(sources[i]), len(targets[i]))
        batch.append(i)
        longest = longer
    if batch:
        yield batch
