"""Errors as users see them: one clear message, exit code 2, nothing lost."""

import errno
import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from outrageous.errors import UserError

P, R = ParamSpec("P"), TypeVar("R")
_OF_THE_DISK = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT}


def one_clear_message(command: Callable[P, R]) -> Callable[P, R]:
    """A command that ends with exit code 2 and one message on a mistake of the user or a disk that cannot be written."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            if error.errno not in _OF_THE_DISK:
                raise
            where = f": {error.filename}" if error.filename else ""
            print(
                f"error: {error.strerror}{where}. What was finished is kept; give the command again when mended",
                file=sys.stderr,
            )
        sys.exit(2)

    return wrapped
