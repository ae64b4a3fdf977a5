"""The archives of One Billion Word and WMT'14 in miniature: the very same layout, filled with the shipped text.

    python tests/data_prep/miniature.py FOLDER URL

writes them and their sources.yaml, with addresses below URL, to FOLDER.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import itertools
import lzma
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from data_prep.sources import Source, read_sources

TEST_LINES = {"newstest2012": 3003, "newstest2013": 3000, "newstest2014": 3003}
POCKET = Path(__file__).parents[2] / "data_prep" / "pocket"


def pocket_lines() -> Iterator[bytes]:
    """Sentences of the shipped English, with their line feeds."""
    with lzma.open(POCKET / "english.addresses.txt.xz") as stream:
        yield from stream


def make_archives(folder: Path, url: str, lines_of_file: int = 3) -> Path:
    """Write an archive for each of the published ones, and a sources.yaml that describes them; returns its path.

    Line counts, sizes and checksums are those of the miniatures; where the real sources.yaml knows no size or checksum,
    theirs does not say one either.
    """
    lines = pocket_lines()
    corpora: dict[str, list[dict[str, Any]]] = {}
    for corpus, sources in read_sources().items():
        corpora[corpus] = []
        for source in sources:
            texts = {name: text_of(name, lines, lines_of_file) for name in source.names}
            write_archive(folder / source.archive_name, source, texts)
            corpora[corpus].append(describe(source, url, folder / source.archive_name, texts))
    path = folder / "sources.yaml"
    path.write_text(yaml.safe_dump(corpora), encoding="utf-8")
    return path


def text_of(name: str, lines: Iterator[bytes], num_lines: int) -> bytes:
    """So many sentences; a test set always has its true number, in its own form."""
    if not name.endswith(".sgm"):
        return b"".join(itertools.islice(lines, num_lines))
    segments = "".join(f'<seg id="{n}">{name}  {n} &amp;</seg>\n' for n in range(1, TEST_LINES[name[:12]] + 1))
    return f'<refset>\n<doc docid="d" genre="news" origlang="en">\n<p>\n{segments}</p>\n</doc>\n</refset>\n'.encode()


def write_archive(path: Path, source: Source, texts: dict[str, bytes]) -> None:
    """A tar of the layout of `source` with these files, its folders, and a file that nobody asked for."""
    prefix = f"{source.inside}/" if source.inside else ""
    plain = path.suffix == ".tar"  # and then it is the files within that are compressed
    with tarfile.open(path, "w" if plain else "w:gz") as tar:
        for folder in sorted({f"{prefix}{name}".rpartition("/")[0] for name in texts} - {""}):
            add(tar, folder, kind=tarfile.DIRTYPE)
        add(tar, f"{prefix}README", b"Not wanted.\n")
        for name, text in texts.items():
            add(tar, f"{prefix}{name}.gz", gzip.compress(text)) if plain else add(tar, f"{prefix}{name}", text)


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    """A member of these bytes, or of another kind."""
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def describe(source: Source, url: str, archive: Path, texts: dict[str, bytes]) -> dict[str, Any]:
    """The entry of sources.yaml for a miniature."""
    groups = []
    for group in source.files:
        names = list(group.names)
        num_lines = sum(texts[name].count(b"\n") for name in names)
        entry: dict[str, Any] = {"lines": num_lines}
        if group.md5:
            entry["md5"] = hashlib.md5(texts[names[0]]).hexdigest()
        groups += [{"name": names[0], **entry}] if len(names) == 1 else [_numbered(names) | entry]
    described = dataclasses.asdict(source)
    entry = {key: described[key] for key in ("folder", "sacrebleu", "inside") if described[key] is not None}
    entry |= {"url": f"{url}/{source.archive_name}", "files": groups}
    entry["unpacked_bytes"] = sum(map(len, texts.values()))
    if source.size:
        entry["bytes"] = archive.stat().st_size
    if source.checksum:
        entry["checksum"] = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    return entry


def _numbered(names: list[str]) -> dict[str, Any]:
    """`a-00001-of-3`, `a-00002-of-3`, … as a pattern and its first and last number."""
    head, _, tail = names[0].rpartition("-of-")
    stem, _, first = head.rpartition("-")
    return {"name": f"{stem}-{{:05d}}-of-{tail}", "first": int(first), "last": int(first) + len(names) - 1}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(make_archives(target, sys.argv[2]))
