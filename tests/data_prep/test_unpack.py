"""Files out of archives: the ones that are wanted, verified, and nothing outside the folder."""

import dataclasses
import gzip
import hashlib
import tarfile
from pathlib import Path

import pytest
from miniature import add, write_archive

from data_prep.sources import FileGroup, Source
from data_prep.unpack import FileFacts, unpack
from outrageous.errors import UserError

TEXTS = {"a/one": b"first\nsecond\n", "a/two": b"third\n"}
FILES = (FileGroup(("a/one", "a/two"), 3, None),)
SOURCE = Source("corpus", "http://x/corpus.tgz", "corpus.tgz", None, None, 0, "top", FILES, None)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.tgz"
    write_archive(path, SOURCE, TEXTS)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "to" / "folder"
    folder.mkdir(parents=True)
    return folder


def written(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def expecting(**changes: object) -> Source:
    return dataclasses.replace(SOURCE, files=(dataclasses.replace(SOURCE.files[0], **changes),))  # type: ignore[arg-type]


def test_only_the_files_that_are_named_are_written(archive: Path, folder: Path) -> None:
    facts = unpack(archive, SOURCE, folder)
    assert written(folder) == TEXTS  # the archive has a README too
    assert facts["a/one"] == FileFacts(bytes=13, lines=2, md5=hashlib.md5(b"first\nsecond\n").hexdigest())


def test_a_file_that_is_compressed_within_the_archive_is_written_plain(tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "corpus.tar"
    write_archive(archive, SOURCE, TEXTS)
    with tarfile.open(archive) as tar:
        assert "top/a/one.gz" in tar.getnames()
    unpack(archive, SOURCE, folder)
    assert written(folder) == TEXTS


def test_names_may_start_with_a_dot_and_a_slash(tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "corpus.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in TEXTS.items():
            add(tar, f"./top/{name}", text)
    unpack(archive, SOURCE, folder)
    assert written(folder) == TEXTS


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../outside", tarfile.REGTYPE, ""),
        ("top/../../outside", tarfile.REGTYPE, ""),
        ("top/a/one", tarfile.SYMTYPE, "/etc/passwd"),
        ("top/a/one", tarfile.SYMTYPE, "two"),
        ("top/a/one", tarfile.LNKTYPE, "top/a/two"),
        ("top/a/one", tarfile.CHRTYPE, ""),
        ("top/a/one", tarfile.FIFOTYPE, ""),
        ("top/unasked", tarfile.SYMTYPE, "../../.."),
    ],
)
def test_an_archive_with_a_way_out_of_its_folder_is_refused(
    tmp_path: Path, folder: Path, name: str, kind: bytes, link: str
) -> None:
    archive = tmp_path / "corpus.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        add(tar, name, b"evil" if kind == tarfile.REGTYPE else b"", kind, link)
        for wanted, text in TEXTS.items():
            add(tar, f"top/{wanted}", text)
    with pytest.raises(UserError, match="not the published archive and was not unpacked"):
        unpack(archive, SOURCE, folder)
    assert set(tmp_path.rglob("*")) == {archive, folder.parent, folder}


def test_a_missing_file_is_named(archive: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"lacks 1 of 3 files, the first a/three. Delete it"):
        unpack(archive, expecting(names=("a/one", "a/three", "a/two")), folder)


def test_another_number_of_lines_is_refused(archive: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="a/one to a/two has 3 lines, not 1,234"):
        unpack(archive, expecting(lines=1234), folder)


def test_another_number_of_lines_than_a_secondary_source_reports_is_said(
    archive: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(archive, expecting(reported_lines=3), folder)
    assert not capsys.readouterr().out
    unpack(archive, expecting(reported_lines=1234), folder)
    assert "a/one to a/two has 3 lines; a secondary source reports 1,234\n" in capsys.readouterr().out


def test_another_md5_of_a_file_is_refused(archive: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"a/two has md5 .* not 123"):
        unpack(archive, expecting(names=("a/two",), lines=1, md5="123"), folder)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_one_clear_message(archive: Path, folder: Path, share: float) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"corpus.tgz is truncated or damaged .*give the command again"):
        unpack(archive, SOURCE, folder)


def test_a_truncated_file_within_a_plain_archive_is_one_clear_message(tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "corpus.tar"
    with tarfile.open(archive, "w") as tar:
        add(tar, "top/a/one.gz", gzip.compress(b"first\n" * 1000)[:-9])
    with pytest.raises(UserError, match=r"corpus.tar is truncated or damaged"):
        unpack(archive, SOURCE, folder)


def test_what_is_no_archive_is_one_clear_message(archive: Path, folder: Path) -> None:
    archive.write_bytes(b"<html>Please log in</html>" * 100)
    with pytest.raises(UserError, match="truncated or damaged"):
        unpack(archive, SOURCE, folder)
