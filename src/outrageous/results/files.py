"""Whole files or nothing: write to a temporary sibling, then rename."""

import contextlib
import os
from pathlib import Path

from outrageous.errors import UserError


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, making its folder; a failure leaves what was there before.

    Raises UserError when the folder or file cannot be written (read-only, disk full, …).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; make it writable or free some space") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_text(path: Path) -> str:
    """The UTF-8 text of `path`. Raises UserError when it is missing, unreadable or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run from the root of the repository, or restore the file") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}); restore the file") from error
