"""What is fetched and what it must turn out to be, as `sources.yaml` states it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import yaml

SOURCES = Path(__file__).with_name("sources.yaml")


@dataclass(frozen=True)
class FileGroup:
    """Files of an archive that are counted together.

    Attributes:
        names: relative to the folder that the archive is unpacked to.
        lines: of all of them together, as `wc -l` counts; None where unknown.
        md5: of the file, where it is one and its sum is known.
        reported_lines: where `lines` is unknown, what a secondary source says.
    """

    names: tuple[str, ...]
    lines: int | None
    md5: str | None
    reported_lines: int | None = None


@dataclass(frozen=True)
class Source:
    """One archive.

    Attributes:
        folder: where its files go, relative to the folder of all downloads; None for a test set.
        url: its address.
        archive_name: the archive's file name here.
        size: bytes of the archive; None where unknown.
        checksum: `sha256:…` or `md5:…`; None where none was published.
        unpacked_size: bytes that its files need, about.
        inside: folder within the archive that names start from; empty for its root.
        files: what is taken from it.
        sacrebleu: for a test set, the name that it has there, and its files go there; otherwise None.
    """

    folder: str | None
    url: str
    archive_name: str
    size: int | None
    checksum: str | None
    unpacked_size: int
    inside: str
    files: tuple[FileGroup, ...]
    sacrebleu: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Every file that is taken, each once."""
        return tuple(dict.fromkeys(name for group in self.files for name in group.names))


def read_sources(path: Path = SOURCES) -> dict[str, list[Source]]:
    """The archives of each corpus."""
    corpora = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {corpus: [_source(**entry) for entry in entries] for corpus, entries in corpora.items()}


def _source(
    *,
    url: str,
    unpacked_bytes: int,
    inside: str,
    files: list[dict[str, Any]],
    folder: str | None = None,
    archive: str | None = None,
    bytes: int | None = None,
    checksum: str | None = None,
    sacrebleu: str | None = None,
) -> Source:
    groups = tuple(_group(**entry) for entry in files)
    assert (folder is None) != (sacrebleu is None), url
    archive_name = archive or PurePosixPath(urlsplit(url).path).name
    return Source(folder, url, archive_name, bytes, checksum, unpacked_bytes, inside, groups, sacrebleu)


def _group(
    *,
    name: str,
    lines: int | None = None,
    reported_lines: int | None = None,
    md5: str | None = None,
    first: int | None = None,
    last: int | None = None,
) -> FileGroup:
    names: tuple[str, ...] = (name,)
    if first is not None and last is not None:
        names = tuple(name.format(number) for number in range(first, last + 1))
    return FileGroup(names, lines, md5, reported_lines)
