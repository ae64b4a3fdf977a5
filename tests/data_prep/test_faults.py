"""A full disk, and a process killed anywhere: afterwards the same command gives what an undisturbed one gives."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Loopback

import data_prep.prepare
from data_prep.prepare import prepare
from data_prep.sources import Source
from outrageous.errors import UserError

LOCKS = {".lock", ".lock.pid"}
COMMAND = """
import resource, sys
from pathlib import Path
from data_prep.__main__ import main
if limit := int(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main(sys.argv[3:], Path(sys.argv[2]))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.fixture(scope="session")
def undisturbed(archives: Path, lm1b: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    (folder,) = prepare([lm1b], tmp_path_factory.mktemp("undisturbed"), given=[archives / lm1b.archive_name])
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def start(archives: Path, root: Path, *options: str, file_limit: int = 0) -> "subprocess.Popen[str]":
    """`python -m data_prep lm1b` on the miniatures, in a process of its own that may write files of so many bytes."""
    arguments = [str(file_limit), str(archives / "sources.yaml"), "lm1b", "--to", str(root), *options]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own; skips the test where none can be mounted."""
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]).returncode:
        pytest.skip("a small file system cannot be mounted here; the test with a limit on files does without")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("size", ["8k", "64k"])  # the archive has 40 kB, and the files take a page each, 600 kB
def test_a_disk_that_fills_up_is_one_clear_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Loopback, lm1b: Source, size: str
) -> None:
    monkeypatch.setattr(data_prep.prepare, "check_room", lambda *arguments: None)  # something else took the room since
    with small_disk(tmp_path / "small", size) as root:
        with pytest.raises(
            UserError, match=r"No space left on device. What was finished is kept; give the command again"
        ):
            prepare([lm1b], root, server.url)
        assert (root / "archives" / lm1b.archive_name).exists() == (size == "64k")
        assert not list(root.rglob("news*"))  # what was unpacked made room again


@pytest.mark.parametrize("downloading", [True, False])
def test_a_file_that_cannot_grow_is_one_clear_message(
    archives: Path, server: Loopback, lm1b: Source, root: Path, undisturbed: dict[str, bytes], downloading: bool
) -> None:
    """In the download, 40 kB, and in the list of what was unpacked, 25 kB: the last file that is written."""
    source = ["--mirror", server.url] if downloading else ["--archive", str(archives / lm1b.archive_name)]
    with start(archives, root, *source, file_limit=10_000) as command:
        errors = command.communicate()[1]
    assert command.returncode == 2, errors
    assert "File too large. What was finished is kept; give the command again when mended" in errors
    assert "Traceback" not in errors
    left = {file.name for file in root.iterdir()} - LOCKS
    assert left == ({"archives"} if downloading else set())
    prepare([lm1b], root, server.url)
    assert contents(root / "lm1b") == undisturbed


def kill_again_and_again(
    archives: Path, server: Loopback, root: Path, undisturbed: dict[str, bytes], num_kills: int
) -> int:
    """Start and kill the command, each time at a random moment, and let the last one finish.

    Whenever one was quick enough to finish, its result is compared and thrown away.

    Returns:
        The number of processes that were killed in the middle.
    """
    server.seconds_per_chunk = 0.03
    draw = random.Random(0)
    in_the_middle = 0
    begin = time.monotonic()
    with start(archives, root, "--mirror", server.url) as command:
        assert command.communicate()[1] is not None
    seconds = time.monotonic() - begin
    for _ in range(num_kills):
        if (root / "lm1b").exists():
            assert contents(root / "lm1b") == undisturbed
            shutil.rmtree(root)
        with start(archives, root, "--mirror", server.url) as command:
            time.sleep(draw.uniform(0.2, 1) * seconds)
            in_the_middle += command.poll() is None
            command.kill()
    with start(archives, root, "--mirror", server.url) as command:
        errors = command.communicate()[1]
    assert command.returncode == 0, errors
    assert contents(root / "lm1b") == undisturbed
    assert {file.name for file in root.iterdir()} - LOCKS == {"archives", "lm1b"}
    return in_the_middle


def test_a_few_kills_change_nothing(
    archives: Path, server: Loopback, root: Path, undisturbed: dict[str, bytes]
) -> None:
    assert kill_again_and_again(archives, server, root, undisturbed, num_kills=2) > 0


@pytest.mark.slow
def test_twenty_kills_in_a_row_change_nothing(
    archives: Path, server: Loopback, root: Path, undisturbed: dict[str, bytes]
) -> None:
    assert kill_again_and_again(archives, server, root, undisturbed, num_kills=20) >= 10
