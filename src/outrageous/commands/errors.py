"""Errors as users see them: one clear message, exit code 2, nothing lost."""

import errno
import functools
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from outrageous.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")
_OF_THE_DISK = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "ENOTDIR", "EIO")
}


def one_clear_message(command: Callable[P, R]) -> Callable[P, R]:
    """The command, ending with exit code 2 and one line on a mistake of the user or a disk that cannot be written, and
    with 130 on Ctrl-C. Notes added to the error stand behind it."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            print("; ".join([f"error: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        except OSError as error:
            if error.errno not in _OF_THE_DISK:
                raise
            where = f": {error.filename}" if error.filename else ""
            print(
                f"error: {error.strerror}{where}. What was finished is kept; give the command again when mended",
                file=sys.stderr,
            )
        except KeyboardInterrupt:
            print("interrupted; the same command goes on with what is not finished", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        sys.exit(2)

    return wrapped
