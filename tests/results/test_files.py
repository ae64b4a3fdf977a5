from pathlib import Path

import pytest

from outrageous.errors import UserError
from outrageous.results.files import read_text, write_bytes


def test_makes_the_folder_and_leaves_no_other_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "file", b"one")
    write_bytes(tmp_path / "new" / "file", b"two")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new").iterdir()] == [("file", b"two")]


def test_a_failing_disk_leaves_the_old_file_and_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(UserError, match="file: No space left on device"):
        write_bytes(path, b"replacement")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "blocked").touch()
    with pytest.raises(UserError, match="cannot write"):
        write_bytes(tmp_path / "blocked" / "file", b"")


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent is missing"):
        read_text(tmp_path / "absent")
    with pytest.raises(UserError, match="cannot read"):
        read_text(tmp_path)
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"latin is not UTF-8 \(byte 3\)"):
        read_text(tmp_path / "latin")
