"""Errors as users see them."""

import errno
import os
import subprocess
import sys

import pytest

from outrageous.commands.errors import one_clear_message
from outrageous.errors import UserError


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    @one_clear_message
    def command() -> None:
        error = UserError("seed=-1: must be at least 0")
        error.add_note("nothing was written")
        raise error

    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: seed=-1: must be at least 0; nothing was written\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EFBIG])
def test_a_disk_that_cannot_be_written_is_named(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    @one_clear_message
    def command() -> None:
        raise OSError(number, os.strerror(number), "runs/last.ckpt")

    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"error: {os.strerror(number)}: runs/last.ckpt. What was finished is kept; give the command again when mended"
    ]


def test_ctrl_c_says_that_the_command_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    @one_clear_message
    def command() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on with what is not finished\n"


@pytest.mark.parametrize("error", [ValueError("ours"), FileNotFoundError(errno.ENOENT, "ours"), AssertionError("ours")])
def test_a_mistake_of_ours_keeps_its_traceback(error: Exception) -> None:
    @one_clear_message
    def command() -> None:
        raise error

    with pytest.raises(type(error), match="ours"):
        command()


def test_a_command_that_goes_well_returns_what_it_returns() -> None:
    @one_clear_message
    def command(argument: int, *, more: int) -> int:
        """Adds."""
        return argument + more

    assert command(1, more=2) == 3
    assert command.__doc__ == "Adds."


WRITES = """
import sys
from outrageous.commands.errors import one_clear_message

@one_clear_message
def command():
    print("first", flush=True)
    sys.stdin.read()  # until nobody reads any more
    for _ in range({lines}):
        print("another")

command()
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", [1, 100_000])  # written at the end, or on the way
def test_a_command_whose_output_nobody_reads_any_more_ends_quietly(lines: int, unbuffered: str) -> None:
    code, pipe = WRITES.format(lines=lines), subprocess.PIPE
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"first\n"
        process.stdout.close()
        process.stdin.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


def test_a_pipe_to_somebody_else_that_breaks_is_a_mistake_of_ours() -> None:
    @one_clear_message
    def command() -> None:
        raise BrokenPipeError(errno.EPIPE, "ours")

    with pytest.raises(BrokenPipeError, match="ours"):
        command()
