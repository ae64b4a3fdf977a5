import dataclasses
from pathlib import Path
from typing import Any

import pytest

from outrageous.commands import promote
from outrageous.results.records import Record, find_records, read_record, write_record
from outrageous.results.translation_samples import NUM_SAMPLES, Translated, to_lines

SAMPLE = Path(__file__).parents[1] / "results" / "sample_record.json"


def record(**changes: Any) -> Record:
    return dataclasses.replace(read_record(SAMPLE), **changes)


def run(tmp_path: Path, *arguments: str) -> object:
    """The exit code."""
    try:
        return promote.main(["--from", str(tmp_path / "outputs"), "--results", str(tmp_path / "results"), *arguments])
    except SystemExit as stop:
        return stop.code


def finish(tmp_path: Path, *records: Record) -> None:
    for i, one in enumerate(records):
        write_record(one, tmp_path / "outputs" / "runs" / one.experiment / one.scale / f"seed_{one.seed}" / f"hash{i}")


def test_copies_the_newest_run_of_each_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = record(metrics={"test_perplexity": 99.0}, started_at="2026-01-01T00:00:00+00:00")
    finish(tmp_path, record(), old, record(seed=1), record(scale="paper"), record(row=None, seed=5))
    assert run(tmp_path) == 0
    folder = tmp_path / "results" / "records" / "lm" / "moe_4" / "pocket"
    assert read_record(folder / "seed_0" / "record.json") == record()
    assert read_record(folder / "seed_1" / "record.json") == record(seed=1)
    assert len(find_records(tmp_path / "results")) == 2
    assert capsys.readouterr().out.count("promoted") == 2


def test_some_translations_and_experts_are_kept_beside_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path, record())
    [folder] = [path.parent for path in (tmp_path / "outputs").rglob("record.json")]
    source, reference, ours = ([f"{side} {i}" for i in range(100)] for side in ("source", "reference", "ours"))
    (folder / "translations.en-de.txt").write_text(to_lines(Translated(source, reference, ours, "nrefs:1")))
    (folder / "best.ckpt").write_bytes(b"weights")
    assert run(tmp_path) == 0
    target = tmp_path / "results" / "records" / "lm" / "moe_4" / "pocket" / "seed_0"
    assert {path.name for path in target.iterdir()} == {"record.json", "translations.en-de.txt"}
    assert (target / "translations.en-de.txt").read_text().count("translation  ours ") == NUM_SAMPLES


def test_nothing_is_copied_where_translations_are_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, record(), record(seed=1))
    [folder] = [path.parent for path in (tmp_path / "outputs").rglob("seed_1/*/record.json")]
    (folder / "translations.en-de.txt").write_text("half")
    assert run(tmp_path) == 2
    assert "translations.en-de.txt is damaged" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_the_scale_is_chosen(tmp_path: Path) -> None:
    finish(tmp_path, record(), record(scale="paper"))
    assert run(tmp_path, "--scale", "paper") == 0
    assert find_records(tmp_path / "results") == [record(scale="paper")]


@pytest.mark.parametrize("changes", [{"dirty": True}, {"commit": None, "dirty": None}])
def test_refuses_all_when_one_run_has_no_clean_commit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any]
) -> None:
    finish(tmp_path, record(), record(seed=1, **changes))
    assert run(tmp_path) == 2
    assert capsys.readouterr().err.startswith("error: not made from a clean commit: lm/moe_4 pocket seed 1;")
    assert not (tmp_path / "results").exists()


def test_refuses_smoke_and_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, record(scale="smoke"))
    assert run(tmp_path, "--scale", "smoke") == 2
    assert "never a reference" in capsys.readouterr().err
    assert run(tmp_path) == 2
    assert "no finished run of scale pocket" in capsys.readouterr().err


def test_a_different_record_is_replaced_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, record())
    assert run(tmp_path) == 0
    assert run(tmp_path) == 0  # the same once more changes nothing
    better = record(metrics={"test_perplexity": 70.0}, started_at="2026-03-01T00:00:00+00:00")
    finish(tmp_path, record(), better)
    assert run(tmp_path) == 2
    assert "pass --replace" in capsys.readouterr().err
    assert find_records(tmp_path / "results") == [record()]
    assert run(tmp_path, "--replace") == 0
    assert find_records(tmp_path / "results") == [better]


def test_a_results_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tmp_path, record())
    (tmp_path / "results").mkdir()

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    # Permission bits do not stop root, so the file system refuses instead.
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert "Read-only file system" in error
    assert error.count("\n") == 1
    assert list((tmp_path / "results").iterdir()) == []
