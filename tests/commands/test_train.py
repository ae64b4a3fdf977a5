"""`python -m outrageous.commands.train`, as a person types it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from outrageous.commands import train
from outrageous.commands.compose import CONF, to_run_config
from outrageous.config import AnyRunConfig

MODULE = "outrageous.commands.train"


def type_in(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, started in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", MODULE, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def call_here(folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command as if started in `folder`, but in this process, which has imported torch already."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # the command sets it; this restores it
    monkeypatch.setattr(sys, "argv", ["outrageous-train", *arguments])
    train.main()


def test_help_shows_groups_and_examples_without_importing_torch() -> None:
    """Which takes seconds; the answer is to take less than two."""
    program = f"""
import atexit, runpy, sys
heavy = {{"torch", "pytorch_lightning", "datasets", "wandb", "matplotlib"}}
atexit.register(lambda: print("imported:", sorted(heavy & set(sys.modules))))
sys.argv = ["outrageous-train", "--help"]
runpy.run_module("{MODULE}", run_name="__main__", alter_sys=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^experiment/lm: .*moe_32", done.stdout, re.MULTILINE)
    assert re.search(r"^scale: .*paper.*pocket.*smoke", done.stdout, re.MULTILINE)
    assert "outrageous-train experiment=lm/moe_32 " in done.stdout
    assert "outrageous-train -m experiment=lm/moe_32 model.moe.num_experts=4,8,16,32,64" in done.stdout
    assert "imported: []" in done.stdout


def test_every_example_of_the_help_composes() -> None:
    from outrageous.commands.compose import compose_train

    text = (CONF / "train.yaml").read_text(encoding="utf-8")
    examples = re.findall(r"^ +outrageous-train (.+?)(?:   .*)?$", text, re.MULTILINE)
    assert len(examples) >= 6
    for example in examples:
        overrides = [word.strip("'") for word in example.split() if word != "-m"]
        assert compose_train([override.split(",")[0] for override in overrides])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiment=lm/moe_32", "modle.dropout=0.1"], "Could not override 'modle.dropout'"),
        ([], "which experiment? Give experiment=… with one of lm/"),
        (["experiment=lm/4xlstm_512", "model.moe.num_experts=3"], "one of model.moe.num_experts=3 belongs to"),
        (["experiment=lm/4xlstm_512", "gate=noisy_top_k"], "settings of an MoE, which lm/4xlstm_512 does not"),
        (["experiment=lm/moe_32", "data=text"], "data.path is not set: "),
        (["-m", "experiment=lm/moe_32,lm/moe_33"], "there is no experiment/lm/moe_33"),
    ],
)
def test_a_mistake_ends_with_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = type_in(tmp_path, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert done.stdout == ""
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_mistake_found_late_leaves_no_run_behind(
    tmp_path: Path, tiny_corpus: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong, message in (
        (["model.moe.gate.k=5"], "error: the model's settings do not fit together: k=5"),
        (["data.path=missing/*.txt"], "missing/*.txt"),
        (["trainer.validate_every=0"], "error: trainer.validate_every=0: must be at least 1"),
    ):
        with pytest.raises(SystemExit) as ended:
            call_here(tmp_path, ["experiment=lm/moe_4", *tiny_corpus, *wrong], monkeypatch)
        assert ended.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line and "Tokenising" not in line]
        assert len(lines) == 1
        assert message in lines[0]
    assert not (tmp_path / "outputs" / "runs").exists()


def test_paper_scale_on_the_shipped_text_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for scale, warned in (("paper", True), ("pocket", False)):
        with pytest.raises(SystemExit):
            call_here(tmp_path, ["experiment=lm/moe_4", f"scale={scale}", "trainer.max_epochs=0"], monkeypatch)
        message = capsys.readouterr().err
        assert ("warning: scale=paper with data=pocket_english" in message) is warned
        assert "error: trainer.max_epochs=0" in message


def test_processes_that_are_started_read_settings_from_the_same_files(
    tmp_path: Path, tiny_corpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more, searched, elsewhere = tmp_path / "more", tmp_path / "searched", tmp_path / "elsewhere"
    for folder in (more / "trainer", searched / "optim", elsewhere):
        folder.mkdir(parents=True)
    text = (CONF / "train.yaml").read_text(encoding="utf-8")
    (more / "mine.yaml").write_text(text.replace("\nseed: 0\n", "\nseed: 7\n"), encoding="utf-8")
    (more / "trainer" / "two.yaml").write_text("defaults: [ddp]\ndevices: 2\n")
    (searched / "optim" / "slow.yaml").write_text("defaults: [adam]\nlearning_rate: 1e-5\n")
    launched: list[list[str]] = []
    composed: list[AnyRunConfig] = []

    def noted(config: DictConfig) -> AnyRunConfig:
        composed.append(to_run_config(config))
        return composed[-1]

    monkeypatch.setattr(train, "launch", lambda trainer, command_line: launched.append(command_line))
    monkeypatch.setattr(train, "to_run_config", noted)
    options = ["--config-dir=more", "--config-name=mine", f"hydra.searchpath=[{searched}]"]
    call_here(tmp_path, [*options, "experiment=lm/moe_4", *tiny_corpus, "trainer=two", "optim=slow"], monkeypatch)
    call_here(elsewhere, launched[0], monkeypatch)
    assert composed[0] == composed[1]
    assert (composed[0].seed, composed[0].trainer.devices, composed[0].optim.learning_rate) == (7, 2, 1e-5)


def test_a_sweep_over_expert_counts_and_the_same_again(
    tmp_path: Path, tiny_corpus: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-m", "experiment=lm/moe_32", "model.moe.num_experts=4,8", *tiny_corpus, "trainer.max_steps=2"]
    done = type_in(tmp_path, *command, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^sweep: run 1 of 2: .*model\.moe\.num_experts=4", done.stderr, re.MULTILINE)
    assert re.search(r"^sweep: run 2 of 2, about \d+ min left: .*model\.moe\.num_experts=8", done.stderr, re.MULTILINE)
    for notice in ("Warning", "WARNING", "deprecated", "Traceback"):
        assert notice not in done.stderr

    paths = sorted((tmp_path / "outputs" / "runs" / "lm" / "moe_32" / "smoke" / "seed_0").glob("*/record.json"))
    records = [json.loads(path.read_text()) for path in paths]
    assert sorted(record["config"]["model"]["moe"]["num_experts"] for record in records) == [4, 8]
    assert [record["row"] for record in records] == [None, None]  # variations of the row's preset
    for record in records:
        num_experts = record["config"]["model"]["moe"]["num_experts"]
        assert record["config"]["logger"]["group"] == "lm/moe_32 sweep"
        assert f"model.moe.num_experts={num_experts}" in record["config"]["logger"]["tags"]
    for path in paths:
        assert f"Record: {path.relative_to(tmp_path)}" in done.stdout
        assert f"wandb leet {path.parent.relative_to(tmp_path)}/wandb" in done.stdout
    assert done.stdout.count("lm/moe_32 (smoke, seed 0): dev_perplexity ") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}

    written = [path.stat().st_mtime_ns for path in paths]
    call_here(tmp_path, [*command], monkeypatch)
    again = capsys.readouterr()
    assert again.out.count("lm/moe_32 (smoke, seed 0): dev_perplexity ") == 2
    assert [path.stat().st_mtime_ns for path in paths] == written
    assert "step/s" not in again.err  # no bar: nothing was trained
