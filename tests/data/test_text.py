"""Reading source text, good and bad."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from outrageous.data.text import file_sha256, find_files, make_tokeniser, read_lines
from outrageous.errors import UserError


def test_find_files_takes_paths_and_globs_in_order_and_none_twice(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "notes.md", "deep/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert list(find_files(f"{tmp_path}/*.txt")) == ["a.txt", "b.txt"]
    assert list(find_files([f"{tmp_path}/notes.md", f"{tmp_path}/*"])) == ["notes.md", "a.txt", "b.txt"]
    assert list(find_files(f"{tmp_path}/**/*.txt")) == ["a.txt", "b.txt", "deep/c.txt"]
    assert find_files(f"{tmp_path}/deep/*") == {"c.txt": tmp_path / "deep" / "c.txt"}  # named from the folder of all


def test_find_files_takes_relative_paths_and_names_with_brackets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("volume[1].txt").write_text("x")  # as a glob, [1] stands for the character 1
    assert find_files("volume[1].txt") == {"volume[1].txt": tmp_path / "volume[1].txt"}


@pytest.mark.parametrize("path", ["missing.txt", "*.nothing", ["text.txt", "missing.txt"], "."])
def test_find_files_names_what_matches_nothing(
    path: str | list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("x")
    wrong = path if isinstance(path, str) else path[-1]
    with pytest.raises(UserError, match="matches no file") as caught:
        find_files(path)
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("path", [None, [], 3, [3], {"a": "b"}])
def test_find_files_refuses_what_is_no_path(path: object) -> None:
    with pytest.raises(UserError, match=r"data\.path must be"):
        find_files(path)  # type: ignore[arg-type]


@pytest.mark.parametrize(("suffix", "compress"), [(".txt", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_read_lines_normalises_white_space_and_skips_empty_lines(
    suffix: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    file = tmp_path / f"text{suffix}"
    file.write_bytes(compress("\ufeffOne  two\t three \r\n\n \u00a0 \nCafé\u2028noir\nlast without end".encode()))
    assert list(read_lines(file)) == ["One two three", "Café noir", "last without end"]


def test_read_lines_says_where_a_file_is_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes("plain\n\ncafé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.txt is not UTF-8: line 3, byte 4 is 0xe9"):
        list(read_lines(file))


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
@pytest.mark.parametrize("damage", ["truncated", "overwritten", "not an archive"])
def test_read_lines_says_that_an_archive_is_damaged(
    suffix: str, compress: Callable[[bytes], bytes], damage: str, tmp_path: Path
) -> None:
    data = compress("".join(f"sentence number {i}\n" for i in range(5000)).encode())
    half = len(data) // 2
    bad = {"truncated": data[:half], "overwritten": data[:half] + bytes(64) + data[half + 64 :]}.get(damage, b"words\n")
    file = tmp_path / f"text{suffix}"
    file.write_bytes(bad)
    with pytest.raises(UserError, match="is truncated or damaged"):
        list(read_lines(file))


def test_missing_files_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        list(read_lines(tmp_path / "gone.txt"))
    with pytest.raises(UserError, match="cannot read"):
        file_sha256(tmp_path / "gone.txt")


def test_file_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_moses_sets_punctuation_apart_and_keeps_case_and_characters() -> None:
    tokenise = make_tokeniser("moses")
    line = "Mr. Smith said: \"It's 5%, isn't it?\" & left No. 10."
    words = "Mr. Smith said : \" It 's 5 % , isn 't it ? \" & left No. 10 ."
    assert " ".join(tokenise(line)) == words


def test_whitespace_leaves_words_alone() -> None:
    assert make_tokeniser("whitespace")("It 's 5%, <unk> .") == ["It", "'s", "5%,", "<unk>", "."]
