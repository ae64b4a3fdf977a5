"""Errors as users see them: one clear message, exit code 2, nothing lost."""

import errno
import functools
import os
import select
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
    """The command, ending with exit code 2 and one line on a mistake of the user or a disk that cannot be written, with
    130 on Ctrl-C, and with 141 and nothing where whoever reads its output, as `head` does, has read enough. Notes added
    to the error stand behind it."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = command(*args, **kwargs)
            sys.stdout.flush()  # here, where a closed pipe is answered
            return result
        except UserError as error:
            print("; ".join([f"error: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                sys.exit(128 + signal.SIGPIPE)
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


def _nobody_reads() -> bool:
    """Whether stdout is a pipe that was closed at its other end. What is left for it is then dropped, lest Python
    complain of it at the exit."""
    stdout = sys.stdout.fileno()
    poll = select.poll()
    poll.register(stdout, 0)  # errors are told of in any case
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True
