"""Parallel text as Parquet."""

import dataclasses
from pathlib import Path

import pytest
from loopback import Loopback
from pyarrow import parquet  # type: ignore[import-untyped]

import data_prep.pairs
from data_prep.__main__ import main
from data_prep.pairs import write_pairs
from data_prep.sources import FileGroup, Source
from outrageous.errors import UserError

SOURCE = Source("wmt14/one", "http://x/one.tgz", "one.tgz", None, None, 0, "", (), None)


def texts(root: Path, **sides: bytes) -> Source:
    """A source whose files, `text.<language>`, have these bytes."""
    (root / "wmt14" / "one").mkdir(parents=True)
    for language, text in sides.items():
        (root / "wmt14" / "one" / f"text.{language}").write_bytes(text)
    return dataclasses.replace(SOURCE, files=(FileGroup(tuple(f"text.{side}" for side in sides), None, None),))


def read(folder: Path) -> list[dict[str, str]]:
    files = sorted(folder.glob("train-*.parquet"))
    return [row for file in files for row in parquet.read_table(file)["translation"].to_pylist()]


def test_lines_are_paired_and_empty_sides_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = texts(tmp_path, de="eins\n \ndr\u2028ei\nvier\r\u2028\n".encode(), en=b"one\ntwo\n\t\n four", fr=b"un\n")
    folder = write_pairs([source], tmp_path, "de")
    assert folder == tmp_path / "wmt14" / "pairs" / "de-en"
    assert read(folder) == [{"de": "eins", "en": "one"}, {"de": "vier", "en": " four"}]
    assert "2 pairs, and 2 left out that have an empty side" in capsys.readouterr().out


def test_batches_are_joined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("data_prep.pairs.BATCH", 2)
    source = texts(tmp_path, fr=b"1\n2\n3\n4\n5\n", en=b"a\nb\nc\nd\ne\n")
    rows = read(write_pairs([source, source], tmp_path, "fr"))
    assert [row["en"] for row in rows] == list("abcde") * 2


def test_files_that_were_finished_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = texts(tmp_path, de=b"eins\n\nzwei\n", en=b"one\n\ntwo\n")
    write, written = data_prep.pairs._write, list[Path]()

    def stop(sides: object, language: str, target: Path) -> None:
        if written:
            target.write_bytes(b"half")
            raise KeyboardInterrupt
        write(sides, language, target)  # type: ignore[arg-type]
        written.append(target)

    with monkeypatch.context() as patch:
        patch.setattr(data_prep.pairs, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            write_pairs([source, source], tmp_path, "de")
    (first,) = (tmp_path / "wmt14" / "pairs" / ".de-en.part").glob("*.parquet")
    before = first.stat().st_mtime_ns
    folder = write_pairs([source, source], tmp_path, "de")
    assert (folder / first.name).stat().st_mtime_ns == before
    assert [row["de"] for row in read(folder)] == ["eins", "zwei"] * 2
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"de": b"eins\nzwei\n", "en": b"one\n"}, r"text\.de is not as long as .*text\.en\. Delete the folder"),
        ({"de": b"\xff\n", "en": b"one\n"}, "is not UTF-8 .*Delete the folder"),
    ],
)
def test_text_that_does_not_fit_leaves_nothing(tmp_path: Path, sides: dict[str, bytes], message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_pairs([texts(tmp_path, **sides)], tmp_path, "de")
    assert not list((tmp_path / "wmt14" / "pairs").iterdir())


def test_the_command_pairs_all_that_it_fetched(server: Loopback, archives: Path, tmp_path: Path) -> None:
    """Three lines of three archives in German, of five in French."""
    options = ["--to", str(tmp_path), "--mirror", server.url]
    assert main(["wmt14", *options], archives / "sources.yaml") == 0
    for language, num_archives in (("de", 3), ("fr", 5)):
        folder = tmp_path / "wmt14" / "pairs" / f"{language}-en"
        assert len(read(folder)) == 3 * num_archives
        assert len(list(folder.iterdir())) == num_archives
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    assert main(["wmt14", *options], archives / "sources.yaml") == 0
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")} == before
