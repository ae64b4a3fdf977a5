"""Parallel text as Parquet, in the form that the hub's wmt/wmt14 has: a column `translation` of both sides."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import parquet
from tqdm import tqdm

from data_prep.sources import Source
from outrageous.errors import UserError

BATCH = 50_000  # pairs held in memory
_LEFT_OUT = b"left_out"  # where a file says how many pairs were left out of it
_ANEW = "Delete the folder {} and give the command again"


def write_pairs(sources: Sequence[Source], root: Path, language: str) -> Path:
    """Write `<root>/wmt14/pairs/<language>-en/train-*.parquet`, a file for each source, unless it is there.

    White space at the ends of lines is left out, and pairs with an empty side are, as the hub does. Files that an
    interrupted call finished are kept.

    Args:
        sources: those whose files of `language` and English, line by line translations, are under `root`.

    Returns:
        The folder `<language>-en`.

    Raises:
        UserError: two files have different numbers of lines, or a line is not UTF-8.
        OSError: a file cannot be written.
    """
    folder = root / "wmt14" / "pairs" / f"{language}-en"
    if folder.exists():
        return folder
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    try:
        num_pairs, num_left_out = _write_all(list(_sides(sources, root, language)), language, part)
        os.replace(part, folder)
    except UserError:
        shutil.rmtree(part)
        raise
    print(f"{folder}: {num_pairs:,} pairs, and {num_left_out:,} left out that have an empty side")
    return folder


@dataclass(frozen=True)
class _Sides:
    """Two files that are translations of each other; num_lines: None where unknown."""

    foreign: Path
    english: Path
    num_lines: int | None


def _sides(sources: Sequence[Source], root: Path, language: str) -> Iterator[_Sides]:
    for source in sources:
        assert source.folder is not None, source
        for group in source.files:
            for name in group.names:
                if name.endswith(f".{language}"):
                    file = root / source.folder / name
                    yield _Sides(file, file.with_suffix(".en"), group.lines or group.reported_lines)


def _write_all(sides: Sequence[_Sides], language: str, folder: Path) -> tuple[int, int]:
    """The numbers of pairs in all files, and of those left out."""
    num_pairs = num_left_out = 0
    unfinished = folder / "unfinished"
    for number, two in enumerate(sides):
        target = folder / f"train-{number:05d}-of-{len(sides):05d}.parquet"
        if not target.exists():
            _write(two, language, unfinished)
            os.replace(unfinished, target)
        written = parquet.read_metadata(target)
        num_pairs += written.num_rows
        num_left_out += int(written.metadata[_LEFT_OUT])
    return num_pairs, num_left_out


def _write(sides: _Sides, language: str, target: Path) -> None:
    schema = pa.schema({"translation": pa.struct({language: pa.string(), "en": pa.string()})})
    num_left_out = 0
    seconds = 0.1 if sys.stderr.isatty() else 10  # a log file wants few lines
    with (
        parquet.ParquetWriter(target, schema, compression="zstd") as writer,
        tqdm(
            desc=f"Pairing {sides.foreign.stem}",
            total=sides.num_lines,
            unit=" pairs",
            unit_scale=True,
            mininterval=seconds,
        ) as bar,
    ):
        for batch in _batches(sides.foreign, sides.english):
            rows = [{language: one, "en": other} for one, other in batch if one and other]
            writer.write_table(pa.table({"translation": rows}, schema=schema))
            num_left_out += len(batch) - len(rows)
            bar.update(len(batch))
        writer.add_key_value_metadata({_LEFT_OUT: str(num_left_out)})


def _batches(foreign: Path, english: Path) -> Iterator[list[tuple[str, str]]]:
    # Line feeds alone end a line: the text holds other characters that Python takes for the end of one.
    with (
        foreign.open(encoding="utf-8", newline="\n") as one,
        english.open(encoding="utf-8", newline="\n") as other,
    ):
        pairs = zip(one, other, strict=True)
        try:
            while batch := [(a.rstrip(), b.rstrip()) for a, b in itertools.islice(pairs, BATCH)]:
                yield batch
        except UnicodeDecodeError as error:
            raise UserError(f"{foreign} or {english} is not UTF-8 ({error}). {_ANEW.format(foreign.parent)}") from error
        except ValueError as error:
            raise UserError(f"{foreign} is not as long as {english}. {_ANEW.format(foreign.parent)}") from error
