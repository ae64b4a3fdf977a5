"""A full disk, and a process killed anywhere: afterwards the same command gives what an undisturbed one gives."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
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
    """The bytes of each file, but for locks, which say who had them."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in LOCKS)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def start(archives: Path, root: Path, *command: str, file_limit: int = 0) -> "subprocess.Popen[str]":
    """`python -m data_prep` on the miniatures, in a process of its own that may write files of so many bytes."""
    arguments = [str(file_limit), str(archives / "sources.yaml"), *command, "--to", str(root)]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "SACREBLEU": str(root / "sacrebleu"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("size", ["8k", "64k"])  # the archive has 40 kB, and the files take a page each, 600 kB
def test_a_disk_that_fills_up_is_one_clear_message(
    monkeypatch: pytest.MonkeyPatch, small_disk: Callable[[str], Path], server: Loopback, lm1b: Source, size: str
) -> None:
    monkeypatch.setattr(data_prep.prepare, "check_room", lambda *arguments: None)  # something else took the room since
    root = small_disk(size)
    with pytest.raises(UserError, match=r"No space left on device. What was finished is kept; give the command again"):
        prepare([lm1b], root, server.url)
    assert (root / "archives" / lm1b.archive_name).exists() == (size == "64k")
    assert not list(root.rglob("news*"))  # what was unpacked made room again


@pytest.mark.parametrize("downloading", [True, False])
def test_a_file_that_cannot_grow_is_one_clear_message(
    archives: Path, server: Loopback, lm1b: Source, root: Path, undisturbed: dict[str, bytes], downloading: bool
) -> None:
    """In the download, 40 kB, and in the list of what was unpacked, 25 kB: the last file that is written."""
    source = ["--mirror", server.url] if downloading else ["--archive", str(archives / lm1b.archive_name)]
    with start(archives, root, "lm1b", *source, file_limit=10_000) as command:
        errors = command.communicate()[1]
    assert command.returncode == 2, errors
    assert "File too large. What was finished is kept; give the command again when mended" in errors
    assert "Traceback" not in errors
    left = {file.name for file in root.iterdir()} - LOCKS
    assert left == ({"archives"} if downloading else set())
    prepare([lm1b], root, server.url)
    assert contents(root / "lm1b") == undisturbed


def kill_again_and_again(archives: Path, server: Loopback, root: Path, num_kills: int, *command: str) -> None:
    """Let the command finish once; then kill it so often in the middle, at random moments, and let it finish again.

    Whenever it was quick enough to finish before it was killed, its result is compared and thrown away.
    """
    server.seconds_per_chunk = 0.03
    draw = random.Random(0)
    begin = time.monotonic()
    finish(start(archives, root, *command))
    seconds = time.monotonic() - begin
    undisturbed = contents(root)
    shutil.rmtree(root)
    while num_kills:
        with start(archives, root, *command) as process:
            time.sleep(draw.uniform(0.1, 0.9) * seconds)
            finished = process.poll() is not None
            process.kill()
        if finished:
            assert contents(root) == undisturbed
            shutil.rmtree(root)
            seconds *= 0.9  # the first run was slow
        else:
            num_kills -= 1
    finish(start(archives, root, *command))
    assert contents(root) == undisturbed


def finish(process: "subprocess.Popen[str]") -> None:
    with process:
        errors = process.communicate()[1]
    assert process.returncode == 0, errors


def test_a_few_kills_change_nothing(archives: Path, server: Loopback, root: Path) -> None:
    kill_again_and_again(archives, server, root, 2, "lm1b", "--mirror", server.url)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("corpus", ["lm1b", "wmt14"])
def test_twenty_kills_in_a_row_change_nothing(archives: Path, server: Loopback, root: Path, corpus: str) -> None:
    kill_again_and_again(archives, server, root, 20, corpus, "--mirror", server.url)
