"""Wordpieces that all languages share: learnt from the training part, by byte-pair encoding, with sentencepiece."""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from outrageous.errors import UserError

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
TRAINER: dict[str, Any] = {
    "model_type": "bpe",
    "normalization_rule_name": "identity",  # what is decoded is written as the references are
    "character_coverage": 0.9999,
    "num_threads": 4,  # stands in the model file: a number of its own for each machine would change the hash
    "minloglevel": 2,
}


class Wordpieces:
    """The pieces of a sentencepiece model; a piece's id is its place.

    Attributes:
        pad_id, bos_id, eos_id, unk_id: 0 to 3.
        languages: target languages that a token stands for, which goes first in the source.
        fingerprint: hash of the model: what a trained translation model depends on.
    """

    pad_id, bos_id, eos_id, unk_id = range(4)

    def __init__(self, model: bytes) -> None:
        """
        Args:
            model: a serialised sentencepiece model, as `learn_wordpieces` makes them.

        Raises:
            UserError: it is none, or its first pieces are not ours.
        """
        from sentencepiece import SentencePieceProcessor

        try:
            self._processor = SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise UserError("not a sentencepiece model, or a truncated one") from error
        first = tuple(self._processor.id_to_piece(i) for i in range(min(4, len(self))))
        if first != SPECIAL:
            raise UserError(f"a sentencepiece model with other special pieces: 0 to 3 are {first}, not {SPECIAL}")
        self._model = model
        self.fingerprint = hashlib.sha256(model).hexdigest()[:16]
        names = [self._processor.id_to_piece(i) for i in range(4, len(self)) if self._processor.is_control(i)]
        self.languages = [name.removeprefix("<2").removesuffix(">") for name in names]

    def __len__(self) -> int:
        return int(self._processor.get_piece_size())

    def encode_sources(self, lines: Sequence[str], target_language: str) -> list[list[int]]:
        """Ids of each line, `</s>` last; first the token of the target language, if there are such tokens.

        Raises:
            UserError: there are such tokens, but none for this language.
        """
        first: list[int] = []
        if self.languages:
            if target_language not in self.languages:
                raise UserError(
                    f"target language {target_language!r} is unknown to these wordpieces: they have "
                    f"{', '.join(self.languages)}"
                )
            first = [int(self._processor.piece_to_id(language_token(target_language)))]
        return [[*first, *ids, self.eos_id] for ids in self._processor.encode(list(lines))]

    def encode_targets(self, lines: Sequence[str]) -> list[list[int]]:
        """Ids of each line, `</s>` last."""
        return [[*ids, self.eos_id] for ids in self._processor.encode(list(lines))]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids, up to its first `</s>`; `<unk>` becomes ⁇, other special pieces nothing."""
        ends = [row.index(self.eos_id) if self.eos_id in row else len(row) for row in rows]
        texts: list[str] = self._processor.decode([list(row[:end]) for row, end in zip(rows, ends, strict=True)])
        return [" ".join(text.split()) for text in texts]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """How each piece is written, ▁ where a word begins."""
        return [self._processor.id_to_piece(int(i)) for i in ids]

    def save(self, file: Path) -> None:
        """Write the model, which any sentencepiece can read."""
        part = file.with_name(file.name + ".part")
        try:
            part.write_bytes(self._model)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, file: Path) -> Wordpieces:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, or not such a model.
        """
        try:
            return cls(file.read_bytes())
        except OSError as error:
            raise UserError(f"cannot read the wordpieces {file}: {error.strerror or error}") from error
        except UserError as error:
            raise UserError(f"{file} is {error}") from error


def learn_wordpieces(sentences: Iterable[str], size: int, languages: Sequence[str] = ()) -> Wordpieces:
    """Learn `size` pieces, the special ones and a token for each of `languages` among them. All sentences are held in
    memory; the same sentences give the same pieces.

    The tokens of languages are control symbols: a text that spells one out does not become it.

    Raises:
        UserError: the text cannot give as many pieces, or needs more.
    """
    from sentencepiece import SentencePieceTrainer

    special: dict[str, Any] = dict(zip(("pad_piece", "bos_piece", "eos_piece", "unk_piece"), SPECIAL, strict=True))
    special |= {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=size,
            control_symbols=[language_token(language) for language in languages],
            **special,
            **TRAINER,
        )
    except RuntimeError as error:
        reason = str(error).split("] ")[-1].strip() or "there is no text"
        raise UserError(f"data.vocabulary_size={size} does not fit the training text: {reason}") from error
    return Wordpieces(model.getvalue())


def as_learnt(text: str) -> str:
    """A sentence as pieces are learnt of it, and as it must be written to be cut into them: composed Unicode (NFC), and
    one plain space wherever there is white space of any kind."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def language_token(language: str) -> str:
    """The piece that asks for a translation into `language`."""
    return f"<2{language}>"


def evenly(sentences: Iterable[str], num_sentences: int, most: int) -> Iterator[str]:
    """At most `most` of `num_sentences` sentences, spread evenly. (What sentencepiece 0.2.3 draws itself differs from
    process to process, whatever its seed.)"""
    most = min(most, num_sentences)
    for number, sentence in enumerate(sentences):
        if number * most // num_sentences != (number + 1) * most // num_sentences:
            yield sentence
