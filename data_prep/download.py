"""One file over HTTP: resumed, retried, and under its own name only when it is whole and verified."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import requests
import urllib3

from data_prep.progress import bytes_bar
from outrageous.errors import UserError

CHUNK = 1 << 16  # bytes read at once
TIMEOUT = (15, 60)  # seconds to connect, and without any byte
MAX_STALLS = 6  # tries in a row that brought no new byte
MAX_WAIT = 60  # seconds between two tries, at most
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that may be gone on the next try


class _TryAgain(Exception):
    """The connection failed, or the server is busy."""


def download(
    url: str, target: Path, size: int | None, checksum: str | None, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Fetch `url` to `target`, going on from `<target>.part` where an earlier call was interrupted.

    Args:
        size: bytes that it must have; None where unknown.
        checksum: `sha256:…` or `md5:…` that it must have; None where unknown.
        sleep: waits so many seconds between two tries.

    Raises:
        UserError: the server cannot be reached or does not have the file, or has another file than expected.
        OSError: the file cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if size is not None and _size(part) > size:
        part.unlink()
    most, stalls = _size(part), 0
    while _size(part) != size:
        try:
            _go_on(url, part, size)
            break
        except _TryAgain as error:
            stalls = 0 if _size(part) > most else stalls + 1
            most = max(most, _size(part))
            if stalls == MAX_STALLS:
                raise UserError(
                    f"cannot download {url}: {error}. What came so far is kept; give the command again when the "
                    "network is back, or name another server with --mirror or a file with --archive"
                ) from error
            seconds = min(2**stalls, MAX_WAIT)
            print(f"{target.name}: {error}; trying again in {seconds} s", flush=True)
            sleep(seconds)
    try:
        verify(part, size, checksum)
    except UserError:
        part.unlink()  # more of it could not mend it
        raise
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(part, target)


def verify(file: Path, size: int | None, checksum: str | None) -> None:
    """Raises UserError if the file's size or checksum is another one; None is not checked."""
    actual = file.stat().st_size
    if size is not None and actual != size:
        raise UserError(f"{file} has {actual:,} bytes, not {size:,}: it is not the published file. {_FETCH_ANEW}")
    if checksum is not None:
        algorithm, _, expected = checksum.partition(":")
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, algorithm).hexdigest()
        if digest != expected:
            raise UserError(f"{file} has {algorithm} {digest}, not {expected}: it is damaged. {_FETCH_ANEW}")


_FETCH_ANEW = "Fetch it anew: give the command again, name another server with --mirror, or another file with --archive"


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _go_on(url: str, part: Path, size: int | None) -> None:
    """Append what `part` lacks; returns when the server has sent all. Raises _TryAgain for what may pass."""
    start = _size(part)
    headers = {"Accept-Encoding": "identity"}  # the archive as it is: some servers declare .tgz to be an encoding
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if response.headers.get("Content-Range") == f"bytes */{start}":
                    return  # we have the whole file already
                part.unlink()
                raise _TryAgain("its file is shorter than what an earlier try brought; starting again")
            if response.status_code in _PASSING:
                raise _TryAgain(f"the server answered {response.status_code} {response.reason}")
            if not response.ok:
                raise UserError(
                    f"{url} is not to be had: the server answered {response.status_code} {response.reason}; name "
                    "another server with --mirror, or a file that you have with --archive"
                )
            resumed = response.status_code == requests.codes.partial_content
            if start and not resumed:
                print(f"The server cannot resume: {part.name} starts again from its first byte.", flush=True)
                start = 0
            _append(response, part, start, size, url)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        reason = getattr(error.args[0], "reason", error) if error.args else type(error).__name__
        raise _TryAgain(str(reason)) from error


def _append(response: requests.Response, part: Path, start: int, size: int | None, url: str) -> None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length is not None else size
    if size is not None and total != size:
        raise UserError(
            f"{url} has {total:,} bytes, not {size:,}: it is another file. Name another server with --mirror"
        )
    with part.open("ab") as stream, bytes_bar(f"Downloading {part.stem}", total, start) as bar:
        stream.truncate(start)
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            stream.write(chunk)
            bar.update(len(chunk))
        if total is not None and stream.tell() < total:
            raise _TryAgain("the connection was closed early")
