"""Rows that say the same in several languages, from files of columns; whole blocks of them are held out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from outrageous.config import ParallelCorpusConfig
from outrageous.data.split import assign_drawn
from outrageous.data.text import file_sha256, find_files, read_whole_lines
from outrageous.data.wordpieces import as_learnt
from outrageous.errors import UserError

Row = dict[str, str]
"""Language -> sentence `as_learnt`; empty where there is no translation."""

Direction = tuple[str, str]
"""Source and target language."""


class PairSource(Protocol):
    """Where pairs come from.

    Attributes:
        drops_duplicates: leave out held-out pairs whose source stands in the training part; no published test set is
            cut down like that.
        num_rows: how many there are.
    """

    drops_duplicates: bool

    @property
    def num_rows(self) -> int: ...

    def identity(self) -> dict[str, Any]:
        """What tells its text from any other, as plain values; quick to ask for."""

    def rows(self, start: int = 0) -> Iterator[tuple[str, Row]]:
        """Every row from number `start` on, with its part: train, dev or test. Always the same, in the same order."""

    def held_out(self) -> dict[str, Any]:
        """Where dev and test come from, as plain values."""


def parse_directions(config: ParallelCorpusConfig) -> dict[str, Direction]:
    """`en-de` -> (en, de) for each of data.directions.

    Raises:
        UserError: there is none, one is named twice, or is not two languages, whose names can stand in those of files.
    """
    directions = {name: tuple(name.split("-")) for name in config.directions}
    if not directions or len(directions) != len(config.directions):
        raise UserError(f"data.directions={config.directions} must name at least one direction, each once")
    for name, languages in directions.items():
        if len({*languages}) != 2 or len(languages) != 2 or not all(map(_is_name, languages)):
            raise UserError(f"data.directions: {name!r} is not source-target, as en-de")
    return {name: (source, target) for name, (source, target) in directions.items()}


def _is_name(language: str) -> bool:
    return language.replace("_", "").isalnum()


def check_languages(directions: dict[str, Direction], known: list[str], where: str) -> None:
    """Raises UserError if a direction has a language that `where` does not have."""
    for name, languages in directions.items():
        for language in languages:
            if language not in known:
                raise UserError(f"data.directions: {name} wants {language!r}, but {where} has {', '.join(known)}")


def read_rows(file: Path, columns: list[str]) -> Iterator[Row]:
    """Every line as a row of these columns, separated by tabs.

    Raises:
        UserError: the file cannot be read, or a line has more or fewer columns.
    """
    for number, line in enumerate(read_whole_lines(file)):
        texts = [as_learnt(text) for text in line.split("\t")]
        if len(texts) != len(columns):
            raise UserError(
                f"{file}, line {number + 1}: {len(texts)} columns, where {', '.join(columns)} are {len(columns)}, "
                "separated by one tab each; are the sides aligned?"
            )
        yield dict(zip(columns, texts, strict=True))


class PairFiles:
    """Files of columns separated by tabs."""

    drops_duplicates = True

    def __init__(self, config: ParallelCorpusConfig) -> None:
        """Find the files; reads nothing yet.

        Raises:
            UserError: a file or a language is not there.
        """
        directions = parse_directions(config)
        if config.columns is None and len(directions) > 1:
            raise UserError("data.columns must name the languages of the columns where there are several directions")
        self._columns = config.columns or list(*directions.values())
        if len({*self._columns}) != len(self._columns) or "id" in self._columns[1:]:
            raise UserError(f"data.columns={self._columns}: each language once, and id can only be the first")
        check_languages(directions, [name for name in self._columns if name != "id"], f"data.columns={self._columns}")
        self._config = config
        self._files = find_files(config.path)

    def identity(self) -> dict[str, Any]:
        return {"path": [[name, file_sha256(file)] for name, file in self._files.items()]}

    @property
    def num_rows(self) -> int:
        return sum(num_rows for num_rows, _ in self._blocks_of.values())

    def rows(self, start: int = 0) -> Iterator[tuple[str, Row]]:
        part_of = self._part_of
        rows = ((name, *row) for name, file in self._files.items() for row in self._blocks(file))
        for name, block, row in islice(rows, start, None):
            yield part_of.get((name, block), "train"), row

    def held_out(self) -> dict[str, Any]:
        blocks: dict[str, dict[str, list[str]]] = {"dev": {}, "test": {}}
        for (name, block), part in self._part_of.items():
            blocks[part].setdefault(name, []).append(block)
        return {"held_out_blocks": blocks}

    @cached_property
    def _blocks_of(self) -> dict[str, tuple[int, list[str]]]:
        """File name -> number of its rows, and names of its blocks. Reads the files once."""
        found = {}
        for name, file in self._files.items():
            num_rows = 0
            names: dict[str, None] = {}
            for num_rows, (block, _) in enumerate(self._blocks(file), start=1):  # noqa: B007 (used below)
                names[block] = None
            found[name] = num_rows, list(names)
        return found

    @cached_property
    def _part_of(self) -> dict[tuple[str, str], str]:
        """(file name, block name) -> `dev` or `test`, in the order of the files."""
        names_of = {name: names for name, (_, names) in self._blocks_of.items()}
        empty = [name for name, names in names_of.items() if not names]
        if empty:
            raise UserError(f"there is no text in {empty[0]}, which data.path={self._config.path!r} names")
        drawn = assign_drawn(
            {name: len(names) for name, names in names_of.items()},
            self._config.dev_fraction,
            self._config.test_fraction,
            self._config.split_seed,
        )
        return {(name, names_of[name][number]): part for (name, number), part in sorted(drawn.items())}

    def _blocks(self, file: Path) -> Iterator[tuple[str, Row]]:
        """Each row, and the name of its block."""
        for number, row in enumerate(read_rows(file, self._columns)):
            yield self._block(row.pop("id", None), number), row

    def _block(self, row_id: str | None, number: int) -> str:
        if row_id is None:
            return str(number // self._config.block_lines)
        page, has_page, _ = row_id.partition("#")
        return page if has_page else row_id.rpartition(".")[0]
