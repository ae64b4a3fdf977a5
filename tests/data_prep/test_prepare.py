"""From archives to folders of verified text: once, whole, by one process at a time."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback import Loopback

from data_prep.__main__ import main
from data_prep.prepare import check_room, prepare
from data_prep.sources import Source
from outrageous.errors import UserError

TRAINING = "training-monolingual.tokenized.shuffled"
HELD_OUT = "heldout-monolingual.tokenized.shuffled"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def get_lm1b(server: Loopback, archives: Path, tmp_path: Path) -> Callable[..., int]:
    """A function that runs `python -m data_prep lm1b` in this process."""

    def run(*arguments: str, mirror: bool = True) -> int:
        options = ["--to", str(tmp_path / "downloads"), *(["--mirror", server.url] if mirror else []), *arguments]
        return main(["lm1b", *options], archives / "sources.yaml")

    return run


@pytest.fixture
def failing(get_lm1b: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs the command and returns the one line with which it fails."""

    def run(*arguments: str, **options: bool) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            get_lm1b(*arguments, **options)
        assert ended.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "%" not in line and "B/s" not in line]
        assert len([line for line in lines if line]) == 1, lines
        return lines[-1]

    return run


def test_one_billion_word_lies_where_the_readme_says(get_lm1b: Callable[..., int], tmp_path: Path) -> None:
    assert get_lm1b() == 0
    folder = tmp_path / "downloads" / "lm1b"
    assert len(list((folder / TRAINING).glob("news.en-000??-of-00100"))) == 99
    assert len(list((folder / HELD_OUT).glob("news.en.heldout-000??-of-00050"))) == 50
    facts = json.loads((folder / "verified.json").read_text())["files"]
    for name, fact in facts.items():
        text = (folder / name).read_bytes()
        assert (fact["bytes"], fact["lines"]) == (len(text), text.count(b"\n"))
    assert set(contents(folder)) == {*facts, "verified.json"}


@pytest.mark.parametrize(("options", "folders"), [(["--pair", "en-de"], 3), (["--pair", "en-fr"], 5), ([], 5)])
def test_wmt14_lies_where_the_readme_says(
    server: Loopback, archives: Path, tmp_path: Path, options: list[str], folders: int
) -> None:
    to = ["--to", str(tmp_path), "--mirror", server.url]
    assert main(["wmt14", *to, *options], archives / "sources.yaml") == 0
    for folder, stem in [
        ("europarl-v7", "europarl-v7.de-en"),
        ("commoncrawl", "commoncrawl.fr-en"),
        ("news-commentary-v9", "news-commentary-v9.de-en"),
        ("un", "undoc.2000.fr-en"),
        ("giga-fren", "giga-fren.release2.fixed"),
    ][:folders]:
        sides = [(tmp_path / "wmt14" / folder / f"{stem}.{language}") for language in ("en", stem[-5:-3])]
        assert sides[0].read_bytes().count(b"\n") == 3
    assert len(list((tmp_path / "wmt14").iterdir())) == folders + 1  # and `pairs`


def test_given_again_it_neither_fetches_nor_unpacks(
    get_lm1b: Callable[..., int], server: Loopback, tmp_path: Path
) -> None:
    get_lm1b()
    shutil.rmtree(tmp_path / "downloads" / "archives")  # as the README allows
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "downloads" / "lm1b").rglob("*")}
    get_lm1b()
    assert len(server.served) == 1
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "downloads" / "lm1b").rglob("*")} == before


def test_an_archive_of_the_user_is_read_where_it_lies(
    get_lm1b: Callable[..., int], server: Loopback, lm1b: Source, archives: Path, tmp_path: Path
) -> None:
    get_lm1b()
    fetched = contents(tmp_path / "downloads" / "lm1b")
    shutil.rmtree(tmp_path / "downloads")
    get_lm1b("--archive", str(archives / lm1b.archive_name), mirror=False)
    assert contents(tmp_path / "downloads" / "lm1b") == fetched
    assert len(server.served) == 1
    assert not (tmp_path / "downloads" / "archives").exists()


def test_a_wrong_archive_of_the_user_is_one_clear_message(
    failing: Callable[..., str], lm1b: Source, archives: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / lm1b.archive_name
    assert "there is no such file" in failing("--archive", str(damaged))
    data = (archives / lm1b.archive_name).read_bytes()
    damaged.write_bytes(data[:-1])
    assert f"has {len(data) - 1:,} bytes, not {len(data):,}: it is not the published file" in failing(
        "--archive", str(damaged)
    )
    damaged.write_bytes(data[:-1] + b"?")
    assert "it is damaged" in failing("--archive", str(damaged))
    assert damaged.exists()
    assert "none of the archives is called other.tgz; they are 1-billion" in failing("--archive", "other.tgz")


def test_an_archive_that_was_damaged_after_its_download_is_one_clear_message(
    failing: Callable[..., str], lm1b: Source, tmp_path: Path
) -> None:
    archive = tmp_path / "downloads" / "archives" / lm1b.archive_name
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"short")
    assert "has 5 bytes" in failing()


@pytest.mark.parametrize("damage", ["gone", "changed", "no facts"])
def test_a_folder_that_was_damaged_since_is_one_clear_message(
    get_lm1b: Callable[..., int], failing: Callable[..., str], tmp_path: Path, damage: str
) -> None:
    get_lm1b()
    folder = tmp_path / "downloads" / "lm1b"
    shard = folder / TRAINING / "news.en-00042-of-00100"
    if damage == "gone":
        shard.unlink()
    elif damage == "changed":
        shard.write_bytes(b"")
    else:
        (folder / "verified.json").write_text("{")
    message = failing()
    assert f"{folder} is damaged" in message
    assert "delete it and give the command again" in message
    shutil.rmtree(folder)
    assert get_lm1b() == 0


def test_a_failed_unpacking_leaves_no_folder(
    server: Loopback, lm1b: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = dataclasses.replace(lm1b.files[0], lines=30_301_028)
    with pytest.raises(UserError, match=r"297 lines, not 30,301,028"):
        prepare([dataclasses.replace(lm1b, files=(group,))], tmp_path, server.url)
    assert sorted(file.name for file in tmp_path.iterdir() if not file.name.startswith(".lock")) == ["archives"]


def test_room_on_the_disk_is_looked_at_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, server: Loopback, lm1b: Source, tmp_path: Path
) -> None:
    """1.8 GB to download, 4.2 to unpack and 0.1 to spare: 6.1 GB. Of what is there already, that much less."""
    real = dataclasses.replace(lm1b, size=1_800_000_000, unpacked_size=4_200_000_000)
    free = shutil.disk_usage(tmp_path)._replace(free=6_050_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(
        UserError, match=r"6\.1 GB are needed in .* \(1\.8 to download, 4\.2 to unpack\), and 6\.0|6\.1 are"
    ):
        prepare([real], tmp_path, server.url)
    assert not server.served
    part = tmp_path / "archives" / f"{lm1b.archive_name}.part"
    part.parent.mkdir()
    with part.open("wb") as stream:
        stream.truncate(100_000_000)  # a hole: takes no room here
    check_room([real], tmp_path, set())


def test_a_second_process_is_turned_away_with_the_pid_of_the_first(
    get_lm1b: Callable[..., int], failing: Callable[..., str], tmp_path: Path
) -> None:
    root = tmp_path / "downloads"
    root.mkdir()
    hold = (
        "import sys; from pathlib import Path; from data_prep.prepare import only_one_at_work\n"
        "with only_one_at_work(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert f"another data_prep (process {other.pid}) is at work in {root}" in failing()
        other.kill()
    assert get_lm1b() == 0  # a killed process holds no lock


def test_a_file_in_place_of_the_folder_is_one_clear_message(failing: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "downloads").write_text("not a folder")
    assert f"cannot make the folder --to {tmp_path / 'downloads'}: File exists; name another one" in failing()


def test_the_pair_is_asked_of_wmt14_only(get_lm1b: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        get_lm1b("--pair", "en-de")
    assert "--pair is of wmt14" in capsys.readouterr().err
