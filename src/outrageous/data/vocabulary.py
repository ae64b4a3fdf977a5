"""The words a language model knows, numbered by falling frequency."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from outrageous.errors import UserError

BOS, EOS, UNK = "<s>", "</s>", "<unk>"


class Vocabulary:
    """Words and how often each is predicted in the training part; a word's id is its place.

    Ids fall in frequency, which the log-uniform sampler of the training loss relies on, with `</s>` and `<unk>` where
    their counts put them. `<s>` is only ever an input, so it comes last, with count 0.
    """

    def __init__(self, words: list[str], counts: list[int]) -> None:
        assert len(words) == len(counts)
        assert words[-1] == BOS
        self.words = words
        self.counts = counts
        ids = {word: i for i, word in enumerate(words)}
        assert len(ids) == len(words), "each word has one id"
        self.bos_id = ids.pop(BOS)
        self.eos_id = ids.pop(EOS)
        self.unk_id = ids[UNK]
        self._ids = ids  # without <s> and </s>: where a text spells them out, they are unknown words

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], num_sentences: int, min_count: int, max_size: int | None
    ) -> Vocabulary:
        """Build from the word counts of the training part and its number of sentences (the count of `</s>`).

        Keeps words seen at least `min_count` times, the most frequent first, ties in the order of the words
        themselves, and at most `max_size` entries with `<s>`, `</s>` and `<unk>` among them. `<unk>` counts every word
        that is left out.

        Raises:
            UserError: no word is frequent enough.
        """
        kept = [(word, n) for word, n in counts.items() if n >= min_count and word not in (BOS, EOS, UNK)]
        kept.sort(key=_rank)
        kept = kept[: None if max_size is None else max_size - 3]
        if not kept:
            raise UserError(f"no word of the training part occurs data.min_count={min_count} times; lower it")
        num_unknown = sum(counts.values()) - sum(n for _, n in kept)
        predicted = sorted([*kept, (EOS, num_sentences), (UNK, num_unknown)], key=_rank)
        return cls([word for word, _ in predicted] + [BOS], [n for _, n in predicted] + [0])

    def __len__(self) -> int:
        return len(self.words)

    @property
    def fingerprint(self) -> str:
        """Hash of the words in the order of their ids: what a trained model depends on."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()[:16]

    def encode(self, words: Iterable[str]) -> list[int]:
        """Ids of words; words outside the vocabulary become `unk_id`."""
        get, unk = self._ids.get, self.unk_id
        return [get(word, unk) for word in words]

    def save(self, file: Path) -> None:
        """Write one line `word<TAB>count` per entry, in the order of the ids."""
        part = file.with_name(file.name + ".part")
        lines = (f"{word}\t{count}\n" for word, count in zip(self.words, self.counts, strict=True))
        try:
            with part.open("w", encoding="utf-8", newline="\n") as stream:
                stream.writelines(lines)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, file: Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing or is not a whole vocabulary.
        """
        try:
            lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the vocabulary {file}: {error}") from error
        words: list[str] = []
        counts: list[int] = []
        for number, line in enumerate(lines, start=1):
            word, _, count = line.partition("\t")
            if not word or not count.isdecimal() or (counts and int(count) > counts[-1]):
                raise UserError(f"{file} is not a vocabulary: line {number} is {line!r}, not word<TAB>falling count")
            words.append(word)
            counts.append(int(count))
        if words[-1] != BOS or len({*words}) != len(words) or not {EOS, UNK} <= {*words}:
            raise UserError(f"{file} is not a whole vocabulary: each word once, {EOS} and {UNK} among them, {BOS} last")
        return cls(words, counts)


def _rank(entry: tuple[str, int]) -> tuple[int, str]:
    word, count = entry
    return -count, word
