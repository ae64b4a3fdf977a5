"""A translation checkpoint is tested on one's own pairs, all of them but those that cannot be."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from outrageous.commands.compose import translation_config
from outrageous.config import TranslationRunConfig
from outrageous.errors import UserError
from outrageous.training.translation_evaluation import evaluate_translation
from outrageous.training.translator import load_model

PAIRS = [("cat dog bird", "CAT DOG BIRD"), ("snow tree", "SNOW TREE"), ("fire wind fire wind", "FIRE WIND FIRE WIND")]


@pytest.fixture
def config(tiny_pairs: list[str]) -> TranslationRunConfig:
    return translation_config(tiny_pairs)


def write(file: Path, lines: list[str]) -> Path:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def test_perplexity_is_that_of_each_pair_alone(
    config: TranslationRunConfig, trained_translation: Path, tmp_path: Path
) -> None:
    checkpoint = trained_translation / "best.ckpt"
    file = write(tmp_path / "pairs.tsv", ["\t".join(pair) for pair in PAIRS])
    found, signature = evaluate_translation(config, checkpoint, file, None)
    model, wordpieces = load_model(config, checkpoint)
    model.eval()
    nll, num_predicted = 0.0, 0
    for source, target in PAIRS:
        ids, wanted = wordpieces.encode_sources([source], "de"), wordpieces.encode_targets([target])
        inputs = torch.tensor([[1, *wanted[0][:-1]]])
        whole = torch.ones(1, len(ids[0]), dtype=torch.bool)
        hidden, _ = model(torch.tensor(ids), whole, inputs, torch.ones_like(inputs, dtype=torch.bool))
        logits = hidden @ model.softmax.weight.T + model.softmax.bias
        nll += F.cross_entropy(logits, torch.tensor(wanted[0]), reduction="sum").item()
        num_predicted += len(wanted[0])
    assert found["test_perplexity"] == pytest.approx(torch.tensor(nll / num_predicted).exp().item(), rel=1e-5)
    assert {*found} == {"test_perplexity", "test_bleu", "test_bleu_compounds_split", "test_bleu_sacrebleu"}
    assert signature.startswith("nrefs:1|")


def test_pairs_that_cannot_be_tested_are_counted_on_stderr(
    config: TranslationRunConfig, trained_translation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = ["\t".join(pair) for pair in PAIRS]
    mixed = [good[0], "no target\t", good[1], " ".join(["cat"] * 600) + "\tCAT", "\tNO SOURCE", good[2]]
    checkpoint = trained_translation / "best.ckpt"
    wanted = evaluate_translation(config, checkpoint, write(tmp_path / "good.tsv", good), "en-de")
    assert "left out" not in capsys.readouterr().err
    assert evaluate_translation(config, checkpoint, write(tmp_path / "mixed.tsv", mixed), "en-de") == wanted
    said = capsys.readouterr().err
    assert "left out 2 pairs with an empty side" in said
    assert "left out 1 pairs of more than 512 wordpieces" in said


@pytest.mark.parametrize(
    ("lines", "direction", "message"),
    [
        (["cat\tCAT", "dog"], None, r"line 2: 1 columns, where en, de are 2.*are the sides aligned"),
        (["cat\t"], None, "has no pairs: give lines of source<TAB>target"),
        (["cat " * 600 + "\tCAT"], None, "every pair has more than 512 wordpieces"),
        (["cat\tCAT"], "en-fr", "direction=en-fr: mt/moe_32_en_de translates en-de; name one of these"),
    ],
)
def test_pairs_that_make_no_test_are_refused(
    config: TranslationRunConfig,
    trained_translation: Path,
    tmp_path: Path,
    lines: list[str],
    direction: str | None,
    message: str,
) -> None:
    file = write(tmp_path / "pairs.tsv", lines)
    with pytest.raises(UserError, match=message):
        evaluate_translation(config, trained_translation / "best.ckpt", file, direction)


def test_a_file_or_wordpieces_that_are_missing_are_named(
    config: TranslationRunConfig, trained_translation: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"nowhere\.tsv"):
        evaluate_translation(config, trained_translation / "best.ckpt", tmp_path / "nowhere.tsv", None)
    file = write(tmp_path / "pairs.tsv", ["cat\tCAT"])
    alone = tmp_path / "best.ckpt"
    alone.write_bytes((trained_translation / "best.ckpt").read_bytes())
    with pytest.raises(UserError, match=r"cannot read the wordpieces .*wordpieces\.model"):
        evaluate_translation(config, alone, file, None)


def test_a_text_that_has_changed_since_training_is_no_test(
    config: TranslationRunConfig, tiny_pairs: list[str], trained_translation: Path, tmp_path: Path
) -> None:
    checkpoint = trained_translation / "best.ckpt"
    found, _ = evaluate_translation(config, checkpoint, None, None)
    assert {*found} >= {"dev_perplexity", "test_perplexity", "test_bleu"}
    lines = Path(str(config.data.path)).read_text(encoding="utf-8").splitlines()
    # The same words, and so the same pieces; or others.
    for other, message in (
        ([lines[1], lines[0], *lines[2:]], "on corpus"),
        (lines[::-1], "with vocabulary"),
    ):
        file = write(tmp_path / "changed.tsv", other)
        with pytest.raises(UserError, match=f"was trained {message}"):
            evaluate_translation(translation_config([*tiny_pairs, f"data.path={file}"]), checkpoint, None, None)
