"""Reading source text: which files, their lines, their words."""

from __future__ import annotations

import glob
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from outrageous.errors import UserError

Tokeniser = Callable[[str], list[str]]


def find_files(path: str | list[str]) -> list[Path]:
    """The files that `path` names: one path or glob, or a list of them; each glob's matches in sorted order, none twice.

    Raises:
        UserError: an entry matches no file, or is not a string.
    """
    patterns = [path] if isinstance(path, str) else path
    if not isinstance(patterns, list) or not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise UserError(f"data.path must be a path, a glob or a list of them, not {path!r}")
    files: dict[Path, None] = {}
    for pattern in patterns:
        matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))] or [Path(pattern)]
        regular = [match for match in matches if match.is_file()]
        if not regular:
            raise UserError(f"no file matches data.path={pattern!r} (looked from {Path.cwd()})")
        files |= dict.fromkeys(regular)
    return list(files)


def read_lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 file (plain, .gz or .xz) in order: white space runs become one space, empty lines are skipped.

    Raises:
        UserError: the file is unreadable, its archive is damaged, or a line is not UTF-8.
    """
    open_binary = {".xz": lzma.open, ".gz": gzip.open}.get(file.suffix, open)
    try:
        with open_binary(file, "rb") as stream:
            for number, raw in enumerate(stream, start=1):
                line = " ".join(raw.decode("utf-8-sig" if number == 1 else "utf-8").split())
                if line:
                    yield line
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8: line {number}, byte {error.start + 1} is 0x{error.object[error.start]:02x}; "
            "convert the file to UTF-8 first"
        ) from error
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{file} is truncated or damaged ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes as hexadecimal digits.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error


def make_tokeniser(name: str) -> Tokeniser:
    """A function from a line to its words.

    `moses` sets punctuation apart and keeps case, as One Billion Word's own preparation did; `whitespace` is for text that
    is tokenised already (One Billion Word as it is published).

    Raises:
        UserError: the name is neither.
    """
    if name == "whitespace":
        return str.split
    if name == "moses":
        import sacremoses

        moses = sacremoses.MosesTokenizer("en")
        return lambda line: moses.tokenize(line, escape=False)
    raise UserError(f"data.tokeniser={name!r} is unknown: choose moses or whitespace")
