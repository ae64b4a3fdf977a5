"""Translation models are trained, go on and are tested as language models are, and their translations are scored."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from outrageous.commands.compose import translation_config
from outrageous.config import TranslationRunConfig
from outrageous.data.pair_dataset import PairBatch
from outrageous.data.parallel_corpus import ParallelCorpus
from outrageous.errors import UserError
from outrageous.models.beam_search import BeamSettings
from outrageous.moe import balancing_loss
from outrageous.training.batchwise_test import batchwise_perplexity
from outrageous.training.run import run
from outrageous.training.settings import check_settings
from outrageous.training.tasks import build_data, prepare
from outrageous.training.translation_module import TranslationModule
from outrageous.training.translator import Translator

Settings = Callable[..., TranslationRunConfig]


@pytest.fixture(scope="module")
def translation_settings(tiny_pairs: list[str]) -> Settings:
    """A function from a folder for runs and overrides to settings on the tiny pairs."""
    return lambda runs, *overrides: translation_config([*tiny_pairs, f"paths.runs={runs}", *overrides])


@pytest.fixture(scope="module")
def corpus(translation_settings: Settings) -> ParallelCorpus:
    found = prepare(translation_settings(Path("runs")))
    assert isinstance(found, ParallelCorpus)
    return found


def first_batch(config: TranslationRunConfig, corpus: ParallelCorpus) -> PairBatch:
    batch = next(iter(build_data(config, corpus).train_dataloader()))
    assert isinstance(batch, PairBatch)
    return batch.to("cpu")


def test_a_step_is_the_cross_entropy_of_all_wordpieces_and_the_losses_of_both_mixtures(
    translation_settings: Settings, corpus: ParallelCorpus
) -> None:
    config = translation_settings(Path("runs"), "balance.w_importance=0.5")
    module = TranslationModule(config, len(corpus.vocabulary), {})
    batch = first_batch(config, corpus)
    step = module.training_step(batch, 0)
    hidden, reports = module.model(batch.source, batch.source_mask, batch.inputs, batch.mask)
    logits = hidden @ module.model.softmax.weight.T + module.model.softmax.bias
    words = F.cross_entropy(logits, batch.targets[batch.mask])
    assert len(reports) == 2
    losses = [balancing_loss(report, 0.5, 0.01) + report.threshold_loss for report in reports]
    torch.testing.assert_close(step["loss"], words + sum(losses))
    assert step["tokens_of_moes"] == [batch.source_mask.sum(), batch.num_tokens]
    assert [len(counts) for counts in step["tokens_per_expert"]] == [8, 8]


def test_the_learning_rate_is_flat_before_it_falls(translation_settings: Settings, corpus: ParallelCorpus) -> None:
    config = translation_settings(Path("runs"), "schedule.warmup_steps=2", "schedule.flat_until=4")
    module = TranslationModule(config, len(corpus.vocabulary), {})
    plan: Any = module.configure_optimizers()
    factors = [plan["lr_scheduler"]["scheduler"].lr_lambdas[0](step) for step in range(16)]
    assert factors[:4] == [0.5, 1, 1, 1]
    assert factors[15] == 0.5  # √(4 / 16)
    with pytest.raises(UserError, match=r"flat_until=1: must be at least schedule\.warmup_steps=2"):
        check_settings(translation_settings(Path("runs"), "schedule.warmup_steps=2", "schedule.flat_until=1"))


def test_a_run_leaves_a_record_its_wordpieces_and_translations_and_goes_on_exactly(
    translation_settings: Settings, corpus: ParallelCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = run(translation_settings(tmp_path / "whole"), "mt_moe_32_en_de")
    names = {"dev_perplexity", "test_perplexity", "test_bleu", "test_bleu_compounds_split", "test_bleu_sacrebleu"}
    assert names | {"test_perplexity_batchwise", "test_expert_bits_above_chance_decoder"} <= {*whole.metrics}
    assert [point.step for point in whole.curve] == [3, 6]
    lines = folder.translations("en-de").read_text().splitlines()
    assert lines[0].startswith("sacreBLEU: nrefs:1|")
    assert sum(line.startswith("translation ") for line in lines) == len(corpus.test)
    assert folder.wordpieces.exists()

    steps = iter(range(100))
    real = TranslationModule.training_step

    def stops_in_the_fifth(self: TranslationModule, batch: PairBatch, batch_idx: int) -> object:
        if next(steps) == 4:
            raise UserError("stop")
        return real(self, batch, batch_idx)

    monkeypatch.setattr(TranslationModule, "training_step", stops_in_the_fifth)
    with pytest.raises(UserError, match="stop"):
        run(translation_settings(tmp_path / "parts"), None)
    resumed, _ = run(translation_settings(tmp_path / "parts"), None)
    assert resumed.metrics == whole.metrics
    assert resumed.curve == whole.curve


def test_a_model_of_several_directions_has_bleu_of_each(tiny_pairs: list[str], tmp_path: Path) -> None:
    others = [setting for setting in tiny_pairs if not setting.startswith(("experiment", "data.directions"))]
    both = ["data.columns=[en,de]", "data.directions=[en-de,de-en]", "trainer.max_steps=3"]
    config = translation_config(["experiment=mt/multilingual", *others, *both, f"paths.runs={tmp_path}"])
    record, folder = run(config, "mt_multilingual")
    scores = {"test_bleu_en_de", "test_bleu_compounds_split_en_de", "test_bleu_de_en", "test_bleu_sacrebleu_de_en"}
    assert scores <= {*record.metrics}
    assert "test_bleu" not in record.metrics
    assert "test_perplexity_batchwise" not in record.metrics  # noisy top-k gates have no other mask
    for direction in ("en-de", "de-en"):
        assert "translation  " in folder.translations(direction).read_text()
    assert "decoder, expert " in folder.experts_text.read_text()


def test_batchwise_masks_in_evaluation_choose_as_in_training(
    translation_settings: Settings, corpus: ParallelCorpus
) -> None:
    config = translation_settings(Path("runs"), "model.dropout=0")
    module = TranslationModule(config, len(corpus.vocabulary), {})
    for name, parameter in module.named_parameters():
        if name.endswith("w_gate"):
            torch.nn.init.normal_(parameter)
    batches = [batch.to("cpu") for batch in build_data(config, corpus).test_dataloader()]
    found = batchwise_perplexity(module, batches)
    assert not any(part.training for part in module.modules())
    nll, num_tokens = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            module.train()  # without dropout and noise the masks are all that differs
            hidden, reports = module.hidden(batch)
            assert all(report.tokens_per_expert.unique().numel() == 1 for report in reports)
            logits = hidden @ module.model.softmax.weight.T + module.model.softmax.bias
            nll += F.cross_entropy(logits, batch.targets[batch.mask], reduction="sum").item()
            num_tokens += batch.num_tokens
    assert found == {"test_perplexity_batchwise": pytest.approx(math.exp(nll / num_tokens), rel=1e-5)}
    assert batchwise_perplexity(TranslationModule(plain(config), len(corpus.vocabulary), {}), batches) == {}


def plain(config: TranslationRunConfig) -> TranslationRunConfig:
    """The same without experts."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, moe=None))


def test_translations_keep_the_order_of_lines_and_do_not_depend_on_their_batch(
    translation_settings: Settings, corpus: ParallelCorpus
) -> None:
    module = TranslationModule(translation_settings(Path("runs")), len(corpus.vocabulary), {})
    translator = Translator(module.model.double(), corpus.vocabulary, BeamSettings(num_beams=3), max_pieces=20)
    lines = ["cat dog", "", "bird " * 30, "river ⁂ stone", "cat"]
    found, cut = translator.translate(lines, "de", keep_attention=True)
    alone = [translator.translate([line], "de")[0][0] for line in lines]
    for together, single in zip(found, alone, strict=True):
        assert [one.text for one in together] == [one.text for one in single]
        assert [one.score for one in together] == pytest.approx([one.score for one in single], abs=1e-9)
    assert [one.text for one in found[1]] == [""]
    assert cut == [2]
    best = found[0][0]
    assert best.attention is not None
    assert best.attention.shape == (len(best.pieces), len(best.source))
    assert best.source[-1] == "</s>"
