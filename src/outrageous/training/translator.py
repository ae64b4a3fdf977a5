"""Sentences in, translations out: wordpieces, batches of like length, beam search."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from outrageous.config import TranslationRunConfig
from outrageous.data.wordpieces import Wordpieces, as_learnt
from outrageous.errors import UserError
from outrageous.models.beam_search import BeamSettings, Hypothesis, beam_search
from outrageous.models.gnmt import TranslationModel
from outrageous.training.checkpoints import KEY, load_state, read_checkpoint
from outrageous.training.run_folder import RunFolder
from outrageous.training.translation_module import TranslationModule

WORDS_PER_BATCH = 16384  # of source, padding included, times the number of beams
MAX_PIECES = 512  # of a sentence: attention and states would take memory without limit, and no training pair is as long


@dataclass(frozen=True)
class Translation:
    """One hypothesis of a sentence.

    Attributes:
        score: of the beam search; 0 for an empty line.
        source, pieces: wordpieces of the line and of the translation, end marks included where there are any.
        attention: [pieces, source], None unless asked for.
    """

    text: str
    score: float
    source: list[str]
    pieces: list[str]
    attention: Tensor | None


class Translator:
    """A trained model with its wordpieces.

    An empty line's translation is empty. A line of more than `max_pieces` wordpieces is cut there.
    """

    def __init__(
        self, model: TranslationModel, wordpieces: Wordpieces, settings: BeamSettings, max_pieces: int = MAX_PIECES
    ) -> None:
        self.model, self.wordpieces, self.settings, self.max_pieces = model.eval(), wordpieces, settings, max_pieces

    def translate(
        self,
        lines: Sequence[str],
        target_language: str,
        keep_attention: bool = False,
        done: Callable[[int], object] = lambda num_lines: None,
    ) -> tuple[list[list[Translation]], list[int]]:
        """
        Args:
            target_language: as `de`; of consequence where a model has several.
            done: told of every batch how many lines it had.

        Returns:
            for each line its translations, best first, and the numbers of the lines that were cut, from 0.

        Raises:
            UserError: the wordpieces have tokens for target languages, but none for this one; or what the model
                computes is not a number.
        """
        encoded = self.wordpieces.encode_sources(list(map(as_learnt, lines)), target_language)
        cut = [i for i, ids in enumerate(encoded) if len(ids) > self.max_pieces]
        for i in cut:
            encoded[i] = [*encoded[i][: self.max_pieces - 1], Wordpieces.eos_id]
        found = [[Translation("", 0.0, [], [], None)] for _ in lines]
        there = [i for i, line in enumerate(lines) if line.strip()]
        done(len(lines) - len(there))
        for batch in _batches(sorted(there, key=lambda i: len(encoded[i])), encoded, self.settings.num_beams):
            source, mask = padded([encoded[i] for i in batch], self.model.softmax.weight.device)
            hypotheses = beam_search(
                self.model, source, mask, Wordpieces.bos_id, Wordpieces.eos_id, self.settings, keep_attention
            )
            for i, of_line in zip(batch, hypotheses, strict=True):
                if not of_line:
                    raise UserError("the model gives no word a probability: its weights are no numbers, or damaged")
                found[i] = [self._translation(encoded[i], one) for one in of_line]
            done(len(batch))
        return found, cut

    def _translation(self, source: list[int], found: Hypothesis) -> Translation:
        ids = found.tokens
        if found.attention is not None and len(found.attention) > len(ids):
            ids = [*ids, Wordpieces.eos_id]
        [text] = self.wordpieces.decode([found.tokens])
        return Translation(
            text, found.score, self.wordpieces.pieces(source), self.wordpieces.pieces(ids), found.attention
        )


def load_model(config: TranslationRunConfig, checkpoint: Path) -> tuple[TranslationModel, Wordpieces]:
    """The weights of a checkpoint, and the wordpieces beside it.

    Raises:
        UserError: one of them is missing or damaged, or they do not fit each other.
    """
    wordpieces = Wordpieces.load(RunFolder(checkpoint.parent).wordpieces)
    trained_with = read_checkpoint(checkpoint)[KEY]["vocabulary_fingerprint"]
    if wordpieces.fingerprint != trained_with:
        raise UserError(
            f"checkpoint {checkpoint} was trained with wordpieces {trained_with}, but those beside it are "
            f"{wordpieces.fingerprint}: restore the wordpieces.model of its run"
        )
    module = TranslationModule(config, len(wordpieces), {})
    load_state(module, checkpoint)
    return module.model, wordpieces


def _batches(order: Sequence[int], encoded: Sequence[Sequence[int]], num_beams: int) -> Iterator[list[int]]:
    """Runs of `order`, whose sentences grow longer, within the budget; a sentence beyond it is alone."""
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * len(encoded[i]) * num_beams > WORDS_PER_BATCH:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """ids [S, L] and where they are no padding."""
    source = torch.full((len(rows), max(map(len, rows))), Wordpieces.pad_id)
    for row, ids in enumerate(rows):
        source[row, : len(ids)] = torch.tensor(ids)
    source = source.to(device)
    return source, source != Wordpieces.pad_id
