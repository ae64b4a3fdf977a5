"""One file over HTTP, with everything that can go wrong on the way."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import Loopback, serve

from data_prep.download import MAX_STALLS, download
from outrageous.errors import UserError

DATA = hashlib.shake_128(b"a file").digest(50_000)
CHECKSUM = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
Fetch = Callable[..., bytes]


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.tgz").write_bytes(DATA)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "here" / "file.tgz"


def fetch(server: Loopback, target: Path, size: int | None = len(DATA), checksum: str | None = CHECKSUM) -> list[float]:
    """The seconds waited between tries."""
    waits: list[float] = []
    download(f"{server.url}/some/file.tgz", target, size, checksum, waits.append)
    assert target.read_bytes() == DATA
    assert [file.name for file in target.parent.iterdir()] == ["file.tgz"]
    return waits


def test_a_whole_download_asks_once(served: Path, target: Path) -> None:
    with serve(served) as server:
        assert fetch(server, target) == []
        assert server.served == [("/some/file.tgz", 0)]


@given(
    cuts=st.lists(st.integers(0, len(DATA) - 1), min_size=1, max_size=4, unique=True).map(sorted),
    published=st.booleans(),
)
def test_a_connection_dropped_at_any_byte_is_resumed_from_there(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], published: bool
) -> None:
    folder = tmp_path_factory.mktemp("dropped")
    (folder / "file.tgz").write_bytes(DATA)
    with serve(folder) as server:
        server.cuts = list(cuts)
        fetch(server, folder / "here" / "file.tgz", *(() if published else (None, None)))
        assert [start for _, start in server.served] == [0, *cuts]


def test_a_server_without_ranges_starts_again_and_that_is_said(
    served: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(served) as server:
        server.ranges = False
        server.cuts = [100, 40_000]
        fetch(server, target)
        assert [start for _, start in server.served] == [0, 0, 0]
    assert "The server cannot resume: file.tgz.part starts again" in capsys.readouterr().out


def test_a_server_without_ranges_that_always_fails_is_given_up(served: Path, target: Path) -> None:
    """It brings bytes with every try, but never a new one."""
    with serve(served) as server:
        server.ranges = False
        server.cuts = [1000] * 100
        with pytest.raises(UserError, match=r"the connection was closed early|IncompleteRead"):
            fetch(server, target)
        assert len(server.served) == MAX_STALLS + 1


def test_waits_grow_while_nothing_comes_and_start_afresh_when_something_does(served: Path, target: Path) -> None:
    with serve(served) as server:
        server.statuses = [503, 503, 503]
        assert fetch(server, target) == [2, 4, 8]
        target.unlink()
        server.cuts = [10, 10_000]
        assert fetch(server, target) == [1, 1]


def test_a_server_that_is_not_there_is_one_clear_message(served: Path, target: Path) -> None:
    with serve(served) as server:
        gone = server.url
    with pytest.raises(UserError, match=r"cannot download .*refused.*--mirror.*--archive"):
        download(f"{gone}/file.tgz", target, len(DATA), CHECKSUM, lambda seconds: None)


def test_a_file_that_is_not_there_is_not_asked_for_twice(served: Path, target: Path) -> None:
    with serve(served) as server:
        server.statuses = [404]
        with pytest.raises(UserError, match=r"not to be had: the server answered 404 .*--mirror"):
            fetch(server, target)
        assert len(server.served) == 1


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_a_file_of_another_size_is_refused_before_it_is_fetched(served: Path, target: Path, size: int) -> None:
    with serve(served) as server, pytest.raises(UserError, match=f"has 50,000 bytes, not {size:,}: it is another file"):
        fetch(server, target, size=size)
    assert not target.exists()


def test_a_wrong_checksum_leaves_nothing_behind(served: Path, target: Path) -> None:
    with serve(served) as server:
        with pytest.raises(UserError, match=r"has sha256 .* not 000: it is damaged. Fetch it anew"):
            fetch(server, target, checksum="sha256:000")
        assert not list(target.parent.iterdir())
        fetch(server, target)


@pytest.mark.parametrize("published", [True, False])
def test_bytes_of_an_earlier_try_that_are_wrong_are_noticed(served: Path, target: Path, published: bool) -> None:
    """Such as the zeros that a file system leaves after the power went. Without a checksum, too many are."""
    target.parent.mkdir()
    part = target.with_name("file.tgz.part")
    part.write_bytes(bytes(1000) if published else bytes(len(DATA) + 1))
    with serve(served) as server:
        if published:
            with pytest.raises(UserError, match="it is damaged"):
                fetch(server, target)
            assert not part.exists()
        fetch(server, target, *(() if published else (None, None)))


@pytest.mark.parametrize("published", [True, False])
def test_what_was_whole_but_not_yet_renamed_is_not_fetched_again(served: Path, target: Path, published: bool) -> None:
    target.parent.mkdir()
    target.with_name("file.tgz.part").write_bytes(DATA)
    with serve(served) as server:
        fetch(server, target, *(() if published else (None, None)))
        assert server.served == ([] if published else [("/some/file.tgz", len(DATA))])
