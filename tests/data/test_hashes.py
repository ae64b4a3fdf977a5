"""Hashes of large files are kept, and only of files that have not changed."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from outrageous.data import hashes
from outrageous.data.hashes import sha256_of


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "REMEMBERED", 5)
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_text("tiny")
    large.write_text("large")
    files, folder = {"s": small, "l": large}, tmp_path / "corpora"
    expected = [["s", sha256(b"tiny").hexdigest()], ["l", sha256(b"large").hexdigest()]]
    assert sha256_of(files, folder) == expected
    read: list[str] = []

    def read_once_more(file: Path) -> str:
        read.append(file.name)
        return sha256(file.read_bytes()).hexdigest()

    monkeypatch.setattr(hashes, "file_sha256", read_once_more)
    assert sha256_of(files, folder) == expected
    assert read == ["small"]
    status = large.stat()
    large.write_text("other")  # of the same size
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert sha256_of(files, folder)[1] == ["l", sha256(b"other").hexdigest()]


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As corpora are that others share; here a file stands in its way, which stops root too."""
    monkeypatch.setattr(hashes, "REMEMBERED", 1)
    (tmp_path / "file").write_text("text")
    assert sha256_of({"file": tmp_path / "file"}, tmp_path / "file" / "corpora") == [
        ["file", sha256(b"text").hexdigest()]
    ]


def test_a_damaged_memory_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "REMEMBERED", 1)
    (tmp_path / "file").write_text("text")
    for damaged in (b"{", b"\xff"):
        (tmp_path / hashes.FILE).write_bytes(damaged)
        assert sha256_of({"file": tmp_path / "file"}, tmp_path) == [["file", sha256(b"text").hexdigest()]]
