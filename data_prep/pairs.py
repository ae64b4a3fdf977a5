"""Parallel text as Parquet, in the form that the hub's wmt/wmt14 has: a column `translation` of both sides."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import parquet
from tqdm import tqdm

from data_prep.sources import Source
from outrageous.errors import UserError

BATCH = 50_000  # pairs held in memory
_ANEW = "Delete the folder {} and give the command again"


def write_pairs(sources: Sequence[Source], root: Path, language: str) -> Path:
    """Write `<root>/wmt14/pairs/<language>-en/train-*.parquet`, a file for each source, unless it is there.

    Pairs with an empty side are left out, as the hub does.

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
    shutil.rmtree(part, ignore_errors=True)  # left behind by a process that was killed
    part.mkdir(parents=True)
    try:
        sides = [side for source in sources for side in _sides(source, root, language)]
        num_pairs = num_lines = 0
        for number, (foreign, english) in enumerate(sides):
            name = f"train-{number:05d}-of-{len(sides):05d}.parquet"
            written, read = _write(foreign, english, language, part / name)
            num_pairs, num_lines = num_pairs + written, num_lines + read
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{folder}: {num_pairs:,} pairs, and {num_lines - num_pairs:,} left out that have an empty side")
    return folder


def _sides(source: Source, root: Path, language: str) -> Iterator[tuple[Path, Path]]:
    assert source.folder is not None, source
    for name in source.names:
        if name.endswith(f".{language}"):
            yield root / source.folder / name, root / source.folder / f"{name.removesuffix(language)}en"


def _write(foreign: Path, english: Path, language: str, target: Path) -> tuple[int, int]:
    """The numbers of pairs that were written and read."""
    schema = pa.schema({"translation": pa.struct({language: pa.string(), "en": pa.string()})})
    written = read = 0
    with (
        parquet.ParquetWriter(target, schema, compression="zstd") as writer,
        tqdm(desc=f"Pairing {foreign.stem}", unit=" pairs", unit_scale=True) as bar,
    ):
        for batch in _batches(foreign, english):
            rows = [{language: one, "en": other} for one, other in batch if one and other]
            writer.write_table(pa.table({"translation": rows}, schema=schema))
            written, read = written + len(rows), read + len(batch)
            bar.update(len(batch))
    return written, read


def _batches(foreign: Path, english: Path) -> Iterator[list[tuple[str, str]]]:
    # Line feeds alone end a line: the text holds other characters that Python takes for the end of one.
    with (
        foreign.open(encoding="utf-8", newline="\n") as one,
        english.open(encoding="utf-8", newline="\n") as other,
    ):
        pairs = zip(one, other, strict=True)
        try:
            while batch := [(a.removesuffix("\n"), b.removesuffix("\n")) for a, b in itertools.islice(pairs, BATCH)]:
                yield batch
        except UnicodeDecodeError as error:
            raise UserError(f"{foreign} or {english} is not UTF-8 ({error}). {_ANEW.format(foreign.parent)}") from error
        except ValueError as error:
            raise UserError(f"{foreign} is not as long as {english}. {_ANEW.format(foreign.parent)}") from error
