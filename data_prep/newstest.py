"""WMT's dev and test sets, put where sacrebleu looks for them, so that it needs no network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.sources import Source
from data_prep.unpack import unpack
from outrageous.errors import UserError

NUM_LINES = {"wmt12": 3003, "wmt13": 3000, "wmt14/full": 3003}
PAIRS = ("en-de", "de-en", "en-fr", "fr-en")


def place_of_set(source: Source) -> Path:
    """sacrebleu's folder of the set."""
    return Path(_dataset(source)._outdir)


def is_installed(source: Source) -> bool:
    """Whether sacrebleu has the whole text of the set."""
    return all(file.is_file() for file in _texts(source)) and _wrong_text(source) is None


def install(source: Source, archive: Path) -> None:
    """Give the set's archive and its files to sacrebleu, and have it make plain text of them.

    Raises:
        UserError: the archive is not what it should be, or its text does not have as many lines as it should.
        OSError: sacrebleu's folder cannot be written.
    """
    dataset = _dataset(source)
    raw = Path(dataset._rawdir)
    # sacrebleu unpacks only what it has downloaded itself: it gets the files first, and then the archive.
    unpack(archive, source, raw / source.inside)
    tarball = raw / dataset._get_tarball_filename(dataset.data[0])
    temporary = tarball.with_name(f".{tarball.name}.part")
    shutil.copyfile(archive, temporary)
    os.replace(temporary, tarball)
    for pair in PAIRS:
        dataset.process_to_text(pair)
    if wrong := _wrong_text(source):
        raise UserError(f"{wrong}: {archive} is not the published archive, or sacrebleu reads it otherwise now")


def _wrong_text(source: Source) -> str | None:
    """The first file with another number of lines than the set has, and both."""
    assert source.sacrebleu is not None, source
    for file in _texts(source):
        num_lines = file.read_bytes().count(b"\n")
        if num_lines != NUM_LINES[source.sacrebleu]:
            return f"{file} has {num_lines:,} lines, not {NUM_LINES[source.sacrebleu]:,}"
    return None


def _texts(source: Source) -> Iterator[Path]:
    """The files of source and reference of each pair, whether they are there or not."""
    dataset = _dataset(source)
    for pair in PAIRS:
        for field in ("src", "ref"):
            yield Path(dataset._get_txt_file_path(pair, field))


def _dataset(source: Source) -> Any:
    from sacrebleu.dataset import DATASETS  # takes a second

    return DATASETS[str(source.sacrebleu)]
