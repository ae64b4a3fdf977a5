"""The files that are wanted out of a tar archive, counted as they are written; nothing else of it reaches the disk."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm.utils import CallbackIOWrapper

from data_prep.progress import bytes_bar
from data_prep.sources import Source
from outrageous.errors import UserError

CHUNK = 1 << 20


@dataclass(frozen=True)
class FileFacts:
    """What was written. lines: as `wc -l` counts them, that is, the number of line feeds."""

    bytes: int
    lines: int
    md5: str


def unpack(archive: Path, source: Source, folder: Path) -> dict[str, FileFacts]:
    """Write the files that `source` names from the archive into `folder`, and check that they are as it says.

    Raises:
        UserError: the archive is damaged, holds a name that leaves its folder, a link or a device, lacks a file, or the
            files' counts or sums are other ones.
        OSError: a file cannot be written.
    """
    prefix = f"{source.inside}/" if source.inside else ""
    wanted = {f"{prefix}{name}{suffix}": name for name in source.names for suffix in ("", ".gz")}
    facts: dict[str, FileFacts] = {}
    try:
        # Not mode "r|gz", which looks at no checksum and takes a cut-off end for the end.
        with _decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar:
            for member in tar:
                _refuse_unsafe(member, archive, folder)
                name = wanted.get(member.name.removeprefix("./"))
                if name is not None:
                    facts[name] = _write(tar, member, folder / name)
            while stream.read(CHUNK):  # to the end, where gzip has its checksum
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{archive} is truncated or damaged ({error}). {_DELETE}") from error
    _check(archive, source, facts)
    return facts


_DELETE = "Delete it and give the command again, or name another file with --archive"


@contextlib.contextmanager
def _decompressed(archive: Path) -> Iterator[Any]:
    """The archive's tar, to read from, with a progress bar."""
    with archive.open("rb") as raw, bytes_bar(f"Unpacking {archive.name}", archive.stat().st_size) as bar:
        counted = CallbackIOWrapper(bar.update, raw, "read")
        if archive.suffix == ".tar":
            yield counted
        else:
            with gzip.GzipFile(fileobj=counted) as stream:
                yield stream


def _refuse_unsafe(member: tarfile.TarInfo, archive: Path, folder: Path) -> None:
    """Raises UserError for a member that no honest archive of text has, wanted or not."""
    try:
        tarfile.data_filter(member, str(folder))
    except tarfile.FilterError as error:
        raise UserError(f"{archive} is not the published archive and was not unpacked: {error}") from error
    if not (member.isreg() or member.isdir()):
        raise UserError(f"{archive} is not the published archive and was not unpacked: {member.name!r} is a link")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, file: Path) -> FileFacts:
    file.parent.mkdir(parents=True, exist_ok=True)
    data = tar.extractfile(member)
    assert data is not None, member
    if member.name.endswith(".gz"):
        with gzip.GzipFile(fileobj=data) as stream:
            return _copy(stream, file)
    return _copy(data, file)


def _copy(data: IO[bytes] | gzip.GzipFile, file: Path) -> FileFacts:
    md5 = hashlib.md5(usedforsecurity=False)
    num_lines = 0
    with file.open("wb") as output:
        while chunk := data.read(CHUNK):
            output.write(chunk)
            md5.update(chunk)
            num_lines += chunk.count(b"\n")
        output.flush()
        os.fsync(output.fileno())
        return FileFacts(output.tell(), num_lines, md5.hexdigest())


def _check(archive: Path, source: Source, facts: dict[str, FileFacts]) -> None:
    """Raises UserError where files are missing or not what they should be."""
    wrong = f"{archive} is not the published archive"
    if missing := [name for name in source.names if name not in facts]:
        raise UserError(
            f"{wrong}: it lacks {len(missing)} of {len(source.names)} files, the first {missing[0]}. {_DELETE}"
        )
    for group in source.files:
        what = group.names[0] if len(group.names) == 1 else f"{group.names[0]} to {group.names[-1]}"
        num_lines = sum(facts[name].lines for name in group.names)
        if group.lines not in (None, num_lines):
            raise UserError(f"{wrong}: {what} has {num_lines:,} lines, not {group.lines:,}. {_DELETE}")
        if group.reported_lines not in (None, num_lines):
            print(f"{what} has {num_lines:,} lines; a secondary source reports {group.reported_lines:,}", flush=True)
        md5 = facts[group.names[0]].md5
        if group.md5 not in (None, md5):
            raise UserError(f"{wrong}: {what} has md5 {md5}, not {group.md5}. {_DELETE}")
