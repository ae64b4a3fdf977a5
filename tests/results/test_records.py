import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outrageous.errors import UserError
from outrageous.results.records import Record, find_records, latest_runs, read_record, write_record

MakeRecord = Callable[..., Record]


def test_written_and_read_again(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record("moe_32", seed=7)
    path = write_record(record, tmp_path / "run")
    assert path == tmp_path / "run" / "record.json"
    assert read_record(path) == record


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"test_perplexity": float("nan")}}, "metric test_perplexity is nan"),
        ({"metrics": {"test_perplexity": 3.0, "cv_load": float("inf")}}, "metric cv_load is inf"),
        ({"metrics": {"dev_perplexity": 3.0}}, "metrics lack test_perplexity"),
        ({"scale": "huge"}, "scale 'huge' is none of smoke, pocket, workstation, paper"),
        ({"started_at": "yesterday"}, "started_at 'yesterday' is not ISO 8601"),
        ({"started_at": "2026-01-31T12:00:00"}, "offset from UTC"),
    ],
)
def test_refused_values(make_record: MakeRecord, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_record(**changes)


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.__delitem__(name)


def with_(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("seed"), "record lacks seed"),
        (with_("sede", 1), "record has unknown keys: sede"),
        (with_("seed", "1"), "record.seed should be int, not '1'"),
        (with_("metrics", {"test_perplexity": None}), "record.metrics.test_perplexity should be float"),
        (with_("hardware", {"cpu": "x"}), "record.hardware lacks cores, threads"),
        (with_("scale", "huge"), "scale 'huge'"),
    ],
)
def test_a_wrong_file_is_named_with_its_mistake(
    make_record: MakeRecord, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = write_record(make_record(), tmp_path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_named(make_record: MakeRecord, tmp_path: Path) -> None:
    path = write_record(make_record(), tmp_path)
    path.write_text(path.read_text()[:200])
    with pytest.raises(UserError, match=r"record\.json is not whole JSON \(line \d+"):
        read_record(path)


def test_find_records_anywhere_below(make_record: MakeRecord, tmp_path: Path) -> None:
    assert find_records(tmp_path / "absent") == []
    for seed in (0, 1):
        write_record(make_record(seed=seed), tmp_path / "runs" / f"seed_{seed}" / "hash")
    assert [record.seed for record in find_records(tmp_path)] == [0, 1]


def test_latest_runs_takes_the_newest_of_each_seed_and_one_config(make_record: MakeRecord) -> None:
    def run(seed: int, hour: int, config: str, offset: str = "+00:00") -> Record:
        return make_record(seed=seed, config_hash=config, started_at=f"2026-01-01T{hour:02}:00:00{offset}")

    newest = run(0, 12, "new")
    repeated = [run(1, 9, "new"), run(1, 10, "new")]
    stale = run(2, 11, "old")
    earlier = run(0, 13, "new", "+05:00")  # 08:00 UTC
    assert latest_runs([newest, *repeated, stale, earlier]) == [newest, repeated[1]]


def test_latest_runs_keeps_scales_apart_and_drops_variations(make_record: MakeRecord) -> None:
    pocket, paper = make_record(scale="pocket"), make_record(scale="paper", config_hash="other")
    variation = dataclasses.replace(pocket, row=None, started_at="2027-01-01T00:00:00+00:00")
    assert latest_runs([pocket, paper, variation]) == [paper, pocket]
