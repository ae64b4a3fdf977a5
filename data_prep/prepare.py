"""Archives made into folders of verified text, each whole or not there at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from data_prep.download import download, verify
from data_prep.newstest import install, is_installed, place_of_set
from data_prep.sources import Source
from data_prep.unpack import unpack
from outrageous.errors import UserError

FACTS = "verified.json"
ROOM_TO_SPARE = 100_000_000  # bytes that stay free


def prepare(sources: Sequence[Source], root: Path, mirror: str | None = None, given: Sequence[Path] = ()) -> list[Path]:
    """The folders of `sources`, under `root` or sacrebleu's, having fetched, verified and unpacked what was not there.

    Args:
        mirror: a server to ask in place of the published one, under the same paths.
        given: archives that the user has, found by their names; they are verified and read where they lie.

    Raises:
        UserError: something is wrong with the network, an archive, a file or the disk.
    """
    archives = _match(given, sources)
    try:
        root.mkdir(parents=True, exist_ok=True)
        missing = [source for source in sources if not _is_done(source, root)]
        check_room(missing, root, set(archives))
        for source in missing:
            archive = archives.get(source.archive_name) or fetch(source, root / "archives", mirror)
            if source.sacrebleu:
                install(source, archive)
            else:
                _unpack_whole(archive, source, root)
            print(f"Verified: {place(source, root)}", flush=True)
    except OSError as error:
        where = error.filename or root
        raise UserError(
            f"cannot read or write {where}: {error.strerror or error}. What was finished is kept; give the command "
            "again when mended"
        ) from error
    return [place(source, root) for source in sources]


def place(source: Source, root: Path) -> Path:
    """The folder that the source's files are in when it is done."""
    return root / source.folder if source.folder is not None else place_of_set(source)


def fetch(source: Source, archives: Path, mirror: str | None) -> Path:
    """The verified archive in the folder `archives`, downloaded if it is not there.

    Raises UserError as `download` does, and where an archive that is there is damaged.
    """
    archive = archives / source.archive_name
    if archive.exists():
        verify(archive, source.size, source.checksum)
    else:
        url = source.url if mirror is None else mirror.rstrip("/") + urlsplit(source.url).path
        download(url, archive, source.size, source.checksum)
    return archive


@contextlib.contextmanager
def only_one_at_work(root: Path) -> Iterator[None]:
    """Holds the folder's lock, which goes with the process. Raises UserError when another process has it, or where
    there can be no such folder."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder --to {root}: {error.strerror or error}; name another one") from error
    holder = root / ".lock.pid"
    try:
        with FileLock(root / ".lock", timeout=0):
            holder.write_text(f"{os.getpid()}\n", encoding="utf-8")
            yield
    except Timeout as error:
        pid = holder.read_text(encoding="utf-8").strip() if holder.exists() else "unknown"
        raise UserError(
            f"another data_prep (process {pid}) is at work in {root}: wait for it to end, or name another folder "
            "with --to"
        ) from error


def check_room(sources: Sequence[Source], root: Path, given: set[str]) -> None:
    """Raises UserError if the disk has less room than fetching and unpacking `sources` needs."""
    to_download = 0
    for source in sources:
        if source.archive_name not in given:
            archive = root / "archives" / source.archive_name
            there = [
                file.stat().st_size for file in (archive, archive.with_name(f"{archive.name}.part")) if file.exists()
            ]
            to_download += max(0, (source.size or 0) - sum(there))
    to_unpack = sum(source.unpacked_size for source in sources)
    if not to_download + to_unpack:
        return
    needed = to_download + to_unpack + ROOM_TO_SPARE
    free = shutil.disk_usage(root).free
    if free < needed:
        raise UserError(
            f"{needed / 1e9:.1f} GB are needed in {root} ({to_download / 1e9:.1f} to download, {to_unpack / 1e9:.1f} "
            f"to unpack), and {free / 1e9:.1f} are free: free some, or name a folder on another disk with --to"
        )


def _match(given: Sequence[Path], sources: Sequence[Source]) -> dict[str, Path]:
    """The user's archives by name, verified. Raises UserError for one that is not a file, or none of the corpus."""
    by_name = {source.archive_name: source for source in sources}
    for file in given:
        if file.name not in by_name:
            raise UserError(
                f"--archive {file}: none of the archives is called {file.name}; they are {', '.join(by_name)}"
            )
        if not file.is_file():
            raise UserError(f"--archive {file}: there is no such file")
        verify(file, by_name[file.name].size, by_name[file.name].checksum)
    return {file.name: file for file in given}


def _is_done(source: Source, root: Path) -> bool:
    """Whether the folder is there. Raises UserError where files of it have gone or changed their size since."""
    if source.sacrebleu:
        return is_installed(source)
    folder = place(source, root)
    if not folder.exists():
        return False
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))["files"]
        sizes = {name: facts[name]["bytes"] for name in source.names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is damaged ({FACTS}: {error}): delete it and give the command again") from error
    for name, size in sizes.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            raise UserError(
                f"{folder} is damaged ({name} is gone or has changed): delete it and give the command again"
            )
    return True


def _unpack_whole(archive: Path, source: Source, root: Path) -> None:
    """Unpack into a hidden sibling folder and move it into place when it is whole."""
    folder = place(source, root)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left behind by a process that was killed
    part.mkdir(parents=True)
    try:
        facts = {name: asdict(file) for name, file in sorted(unpack(archive, source, part).items())}
        about = {"url": source.url, "checksum": source.checksum, "files": facts}
        (part / FACTS).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
