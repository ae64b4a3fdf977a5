"""The benchmark measures what it says, and refuses what it cannot."""

import json
from pathlib import Path

import pytest

from outrageous.commands.bench import main


def settings(tiny_corpus: list[str]) -> list[str]:
    return [setting for setting in tiny_corpus if not setting.startswith("scale")]


def test_steps_of_several_models_and_their_ratio(
    tiny_corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["step", "lm/moe_1_wide", "lm/moe_4", *settings(tiny_corpus), "--scale", "smoke", "--rounds", "3"]
    assert main([*arguments, "--save"]) == 0
    saved = json.loads((tmp_path / "results" / "benchmarks" / "step_smoke.json").read_text())
    figures = saved["figures"]
    ratio = figures["lm/moe_4 words_per_second"] / figures["lm/moe_1_wide words_per_second"]
    assert figures["lm/moe_4 / lm/moe_1_wide"] == pytest.approx(ratio)
    assert saved["hardware"]["threads"] == 1
    assert "lm/moe_4 / lm/moe_1_wide" in capsys.readouterr().out


def test_batching(tiny_corpus: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batching", *settings(tiny_corpus), "--scale", "smoke"]) == 0
    figures = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(figures["words_per_second"].replace(",", "")) > 0
    assert 0 <= float(figures["padding"]) < 0.2


def test_steps_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["step"])
    assert stop.value.code == 2
    assert "name the experiments" in capsys.readouterr().err
