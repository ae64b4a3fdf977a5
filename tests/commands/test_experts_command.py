"""Experts are looked at by one command, and at the end of a run of a translation model."""

import json
from pathlib import Path

import pytest

from outrageous.commands import experts
from outrageous.commands.compose import run_config
from outrageous.training.run import run


def test_the_command_repeats_what_the_run_left(
    trained_translation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert experts.main([f"checkpoint={trained_translation / 'best.ckpt'}", "--to", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for name in ("experts.txt", "experts.html"):
        assert (tmp_path / name).read_bytes() == (trained_translation / name).read_bytes()
        assert str(tmp_path / name) in printed
    metrics = json.loads((trained_translation / "record.json").read_text())["metrics"]
    for moe in ("encoder", "decoder"):
        assert f"{metrics[f'test_expert_bits_above_chance_{moe}']:.3f} bits above chance" in printed
    assert "encoder, expert " in (tmp_path / "experts.txt").read_text()


def test_language_models_have_experts_too_but_for_those_without(
    tiny_corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*tiny_corpus, "trainer.max_steps=2", f"paths.runs={tmp_path}"]
    with_experts = run(run_config(["experiment=lm/moe_4", *settings]), row=None)[1]
    assert experts.main([str(with_experts.best_checkpoint), "--part", "dev"]) == 0
    assert "layers.1: 4 experts" in capsys.readouterr().out
    left = with_experts.path / "dev" / "experts.txt"  # not where a run leaves those of its test part
    assert left.read_text().startswith("lm/moe_4 seed 0, dev part")

    without = run(run_config(["experiment=lm/4xlstm_512", *settings]), row=None)[1]
    with pytest.raises(SystemExit) as stopped:
        experts.main([str(without.best_checkpoint)])
    assert stopped.value.code == 2
    assert "lm/4xlstm_512, which has no experts" in capsys.readouterr().err
