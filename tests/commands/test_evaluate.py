"""Evaluation repeats what training reported, and refuses what does not fit."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from outrageous.commands.compose import run_config
from outrageous.training.run import run


@pytest.fixture(scope="module")
def trained(tiny_corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    runs = tmp_path_factory.mktemp("runs")
    config = run_config(["experiment=lm/moe_4", *tiny_corpus, "trainer.max_steps=4", f"paths.runs={runs}"])
    return run(config, row="moe_4")[1].path


def evaluate(*overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outrageous.commands.evaluate", *overrides]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_perplexities_of_the_record(trained: Path) -> None:
    done = evaluate(f"checkpoint={trained / 'best.ckpt'}")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((trained / "record.json").read_text())["metrics"]
    for part in ("dev", "test"):
        found = re.search(rf"{part}_perplexity ([\d.]+)", done.stdout)
        assert found is not None
        assert float(found[1]) == pytest.approx(metrics[f"{part}_perplexity"], rel=1e-5)


def test_another_text_is_read_with_the_checkpoints_vocabulary(
    trained: Path, tiny_corpus: list[str], tmp_path: Path
) -> None:
    """Of its words, every other is known; numbered by a vocabulary of its own, it would not fit the model."""
    other = tmp_path / "other.txt"
    known = next(
        line.split("\t")[0] for line in (trained / "vocabulary.txt").read_text().splitlines() if line[0].isalpha()
    )
    draw = random.Random(1)
    sentences = [[known, "".join(draw.choices("qxz", k=9))] * draw.randint(1, 9) for _ in range(400)]
    other.write_text("".join(" ".join(words) + "\n" for words in sentences))
    data = [setting for setting in tiny_corpus if setting.startswith("data") and not setting.startswith("data.path")]
    checkpoint = f"checkpoint={trained / 'best.ckpt'}"
    done = evaluate(checkpoint, *data, f"data.path={other}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^test_perplexity [\d.]+$", done.stdout, re.MULTILINE)
    assert "test_unknown_words 0.5000" in done.stdout

    alone = tmp_path / "best.ckpt"
    alone.write_bytes((trained / "best.ckpt").read_bytes())
    done = evaluate(f"checkpoint={alone}", *data, f"data.path={other}")
    assert done.returncode == 2
    assert f"{tmp_path / 'vocabulary.txt'}, which training leaves beside it, is missing" in done.stderr
    assert "Traceback" not in done.stderr


def printed(text: str) -> dict[str, float]:
    lines = [line.split() for line in text.splitlines() if not line.startswith("sacreBLEU")]
    return {name: float(value) for name, value in lines}


def test_a_translation_model_gets_the_perplexities_and_bleu_of_its_record(trained_translation: Path) -> None:
    done = evaluate(f"checkpoint={trained_translation / 'best.ckpt'}")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((trained_translation / "record.json").read_text())["metrics"]
    names = {"dev_perplexity", "test_perplexity", "test_bleu", "test_bleu_compounds_split", "test_bleu_sacrebleu"}
    found = printed(done.stdout)
    assert {*found} == names
    for name, value in found.items():
        assert value == pytest.approx(metrics[name], rel=1e-4, abs=1e-4), name
    assert "sacreBLEU: nrefs:1|" in done.stdout


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("checkpoint=nowhere.ckpt", "checkpoint nowhere.ckpt does not exist"),
        ("chekpoint=a.ckpt", "chekpoint"),
    ],
)
def test_no_checkpoint(checkpoint: str, message: str) -> None:
    done = evaluate(checkpoint)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_each_kind_of_model_is_told_how_its_text_is_named(trained: Path, trained_translation: Path) -> None:
    done = evaluate(f"checkpoint={trained / 'best.ckpt'}", "pairs=a.tsv")
    assert done.returncode == 2
    assert "language model: give another text by data=" in done.stderr
    done = evaluate(f"checkpoint={trained_translation / 'best.ckpt'}", "data=text", "data.path=a.txt")
    assert done.returncode == 2
    assert "translation model: give pairs=FILE" in done.stderr
