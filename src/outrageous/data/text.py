"""Reading source text: which files, their lines, their words."""

from __future__ import annotations

import glob
import gzip
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from outrageous.errors import UserError

TOKENISERS = ("moses", "whitespace")


def find_files(path: str | list[str], setting: str = "data.path") -> dict[str, Path]:
    """The files that `path`, the value of `setting`, names: a path, a glob or a list of them, in that order, a glob's
    matches sorted.

    Each goes by its path from the deepest folder that holds them all, so that names do not depend on where that is.

    Raises:
        UserError: an entry matches no file, or is not a string.
    """
    patterns = [path] if isinstance(path, str) else path
    if not isinstance(patterns, list) or not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise UserError(f"{setting} must be a path, a glob or a list of them, not {path!r}")
    files: dict[Path, None] = {}
    for pattern in patterns:
        expanded = str(Path(pattern).expanduser().absolute())
        matches = [Path(match) for match in sorted(glob.glob(expanded, recursive=True))]  # noqa: PTH207 (absolute)
        matches = [match for match in [*matches, Path(expanded)] if match.is_file()]
        if not matches:
            raise UserError(
                f"{setting}={pattern!r} matches no file from {Path.cwd()}; name a file or a glob (books/*.txt)"
            )
        files |= dict.fromkeys(matches)
    folder = Path(os.path.commonpath([file.parent for file in files]))
    return {file.relative_to(folder).as_posix(): file for file in files}


@contextmanager
def open_text(file: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, plain, .gz or .xz, for reading.

    Raises:
        UserError: the file is unreadable, or its archive is damaged.
    """
    open_binary: Any = {".xz": lzma.open, ".gz": gzip.open}.get(file.suffix, open)
    try:
        with open_binary(file, "rb") as stream:
            yield stream
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{file} is truncated or damaged ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error


def read_lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 file (plain, .gz or .xz); runs of white space become one space, empty lines are skipped.

    Raises:
        UserError: the file is unreadable, its archive is damaged, or a line is not UTF-8.
    """
    for whole in read_whole_lines(file):
        line = " ".join(whole.split())
        if line:
            yield line


def read_whole_lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 file (plain, .gz or .xz) as they stand there, but for the end of the line.

    Raises:
        UserError: as `read_lines`.
    """
    try:
        with open_text(file) as stream:
            for number, raw in enumerate(stream, start=1):
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8: line {number}, byte {error.start + 1} is 0x{error.object[error.start]:02x}; "
            "convert the file to UTF-8 first"
        ) from error


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes as hexadecimal digits.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error


def make_tokeniser(name: str) -> Callable[[str], list[str]]:
    """A function from a line to its words, `name` one of `TOKENISERS`.

    `moses` sets punctuation apart and keeps case, as One Billion Word's own preparation did; `whitespace` is for text
    that is tokenised already (One Billion Word as it is published).
    """
    assert name in TOKENISERS, name
    if name == "whitespace":
        return str.split
    import sacremoses  # takes a second, and a corpus that is prepared already does not need it

    moses = sacremoses.MosesTokenizer("en")
    return lambda line: moses.tokenize(line, escape=False)
