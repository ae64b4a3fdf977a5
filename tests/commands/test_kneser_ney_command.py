import re
from pathlib import Path

import pytest

from outrageous.commands import kneser_ney
from outrageous.results.records import find_records


@pytest.fixture
def settings(tiny_corpus: list[str], tmp_path: Path) -> list[str]:
    return [*(setting for setting in tiny_corpus if not setting.startswith("scale")), f"paths.runs={tmp_path / 'runs'}"]


@pytest.mark.parametrize(
    ("table", "experiment"), [("table_7", "lm/kneser_ney_5gram"), ("table_8", "lm/news_kneser_ney_5gram")]
)
def test_a_tables_baseline_leaves_a_record(
    table: str, experiment: str, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kneser_ney.main([table, "--scale", "smoke", *settings]) == 0
    (record,) = find_records(tmp_path / "runs")
    assert (record.experiment, record.scale) == (experiment, "smoke")
    assert record.row is None  # other text than the preset's
    printed = capsys.readouterr().out
    assert printed.startswith(f"{experiment} (smoke): ")
    assert f"test_perplexity {record.metrics['test_perplexity']:.4g}" in printed
    assert re.search(r"[\d,]+ parameters\n$", printed)


def test_a_preset_as_it_is_stands_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def remember(name: str, row: str | None, config: object) -> tuple[None, None]:
        asked.append((name, row))
        return None, None

    monkeypatch.setattr("outrageous.training.ngram_run.run_kneser_ney", remember)
    kneser_ney.estimate("table_7", "pocket", ["paths.runs=elsewhere"])
    kneser_ney.estimate("table_8", "pocket", ["data.min_count=7"])
    assert asked == [("lm/kneser_ney_5gram", "kneser_ney_5gram"), ("lm/news_kneser_ney_5gram", None)]


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        kneser_ney.main(["table_7", "data.min_cuont=7"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "min_cuont" in error
    assert error.count("\n") == 1
