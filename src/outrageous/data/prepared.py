"""A prepared folder: made once, whole or not at all, named by a fingerprint of all that shaped it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock

from outrageous.errors import UserError

META = "meta.json"
Steps = Callable[[Path], Iterable[Path]]
"""Which files of a folder are those of the steps of its making, not of what is made."""


class Unfinished(UserError):
    """Not a mistake in what was asked for: given again, the command goes on with what is not finished."""


def prepare_once(
    folder: Path,
    name: str,
    identity: dict[str, Any],
    build: Callable[[Path], dict[str, Any]],
    steps: Steps | None = None,
) -> Path:
    """The folder under `folder` that `build` has filled, calling it first if no earlier call has.

    Safe to call from several processes at once: one prepares, the others wait. An interrupted preparation leaves
    nothing that passes for a finished one. What `build` returns goes to `meta.json`, beside `fingerprint` and
    `made_from`.

    Args:
        identity: plain values that say all of what is made; their hash is the fingerprint.
        build: fills the empty folder that it is given, and returns what is to be known of it.
        steps: of a build that can go on. Unless it is the user's mistake that ends it, what it has done is kept, out of
            sight, and the next call gets the folder as it is; these files are deleted when all is made.

    Raises:
        UserError: the folder cannot be written.
    """
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    target = folder / f"{name}-{fingerprint}"
    if not target.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{target.name}.lock"):
                if not target.exists():
                    _prepare(target, {"fingerprint": fingerprint, "made_from": identity}, build, steps)
        except OSError as error:
            raise UserError(
                f"cannot write the prepared corpus {target}: {error.strerror or error}; make room or make it writable, "
                "and give the command again"
            ) from error
    return target


def _prepare(target: Path, meta: dict[str, Any], build: Callable[[Path], dict[str, Any]], steps: Steps | None) -> None:
    """Prepare in a sibling folder and move it into place when it is whole."""
    part = target.with_name(f".{target.name}.part")
    if steps is None:
        shutil.rmtree(part, ignore_errors=True)  # left behind by a process that was killed
    part.mkdir(exist_ok=True)
    try:
        if not (part / META).exists():  # otherwise an earlier call was interrupted while it deleted the steps' files
            unfinished = part / f".{META}"
            unfinished.write_text(json.dumps(meta | build(part), indent=2) + "\n", encoding="utf-8")
            unfinished.replace(part / META)
        for file in steps(part) if steps else ():
            file.unlink()
        part.replace(target)
    except BaseException as error:
        nothing_done = not any(part.iterdir())
        if nothing_done or steps is None or (isinstance(error, UserError) and not isinstance(error, Unfinished)):
            shutil.rmtree(part, ignore_errors=True)
        raise
