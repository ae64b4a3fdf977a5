"""The hashes of large files, computed once: One Billion Word takes seconds to read, and training opens it each time."""

from __future__ import annotations

import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from outrageous.data.text import file_sha256

REMEMBERED = 1 << 24  # bytes; smaller files are hashed in no time
FILE = ".hashes.json"


def sha256_of(files: dict[str, Path], folder: Path) -> list[list[str]]:
    """[name, SHA-256] of each file. What was hashed before and has the same size and time of change is not read again;
    that is kept in `folder`.

    Raises:
        UserError: a file cannot be read.
    """
    known = _read(folder / FILE)
    stamps = {name: _stamp(file) for name, file in files.items()}
    new = [name for name, stamp in stamps.items() if stamp not in known]
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        hashed = dict(zip(new, pool.map(lambda name: file_sha256(files[name]), new), strict=True))
    remembered = {stamps[name]: hashed[name] for name in new if files[name].stat().st_size >= REMEMBERED}
    if remembered:
        _write(folder / FILE, known | remembered)
    return [[name, hashed.get(name) or known[stamp]] for name, stamp in stamps.items()]


def _stamp(file: Path) -> str:
    status = file.stat()
    return f"{file.absolute()} {status.st_size} {status.st_mtime_ns}"


def _write(file: Path, hashes: dict[str, str]) -> None:
    part = file.with_name(f"{file.name}.{os.getpid()}")  # several processes may be at it
    with contextlib.suppress(
        OSError
    ):  # corpora that somebody else prepared, which may be read only: hash again next time
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(hashes, indent=1), encoding="utf-8")
        part.replace(file)


def _read(file: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or damaged: everything is hashed again
        return {}
    return known
