"""Every preset composes at every scale, is the experiment that its name says, and differs in nothing else."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from outrageous.commands.compose import CONF, compose_train, experiments, run_config
from outrageous.config import RunConfig
from outrageous.models.language_model import LanguageModel
from outrageous.results.published import table_7
from outrageous.results.records import SCALES
from outrageous.training.run_folder import plain_config
from outrageous.training.settings import check_settings

EXPERIMENTS = experiments()
IN_SCALES = [scale for scale in SCALES if (CONF / "scale" / f"{scale}.yaml").exists()]
PUBLISHED = CONF.parent / "results" / "published"

# What a scale may change: sizes and budgets.
SIZES_AND_BUDGETS = {
    "scale.name",
    "scale.d_model",
    "scale.d_hidden",
    "scale.d_hidden_of_256",
    "data.max_size",
    "model.d_model",
    "model.lstm_units",
    "model.dropout",  # as little as so few passes over so little text ask for
    "model.num_sampled",
    "model.moe.d_hidden",
    "schedule.warmup_steps",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.words_per_batch",
    "trainer.eval_words_per_batch",
    "trainer.validate_every",
    "trainer.log_every",
}


@cache
def composed(experiment: str, scale: str) -> RunConfig:
    return run_config([f"experiment={experiment}", f"scale={scale}"])


def flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("trainer.max_epochs", 2) and so on."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differences(one: RunConfig, other: RunConfig) -> set[str]:
    a, b = dict(flat(plain_config(one))), dict(flat(plain_config(other)))
    return {name for name in a.keys() | b.keys() if a.get(name, "absent") != b.get(name, "absent")}


def test_there_are_scales_and_experiments() -> None:
    assert {"smoke", "pocket", "paper"} <= {*IN_SCALES}
    assert [file.stem for file in (CONF / "scale").glob("*.yaml") if file.stem not in SCALES] == []
    assert len(EXPERIMENTS) >= 7


@pytest.mark.parametrize("scale", IN_SCALES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_preset_is_checked_against_the_schema_and_builds(experiment: str, scale: str) -> None:
    config = composed(experiment, scale)
    check_settings(config)
    with torch.device("meta"):  # no memory for the weights
        model = LanguageModel(config.model, vocabulary_size=config.data.max_size or 793_471)
    assert (config.name, config.scale.name) == (experiment, scale)
    assert model.config.d_model == config.scale.d_model


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_scale_changes_sizes_and_budgets_only(experiment: str) -> None:
    for scale in IN_SCALES:
        assert differences(composed(experiment, scale), composed(experiment, "paper")) <= SIZES_AND_BUDGETS


@pytest.mark.parametrize("scale", IN_SCALES)
def test_the_rows_of_a_table_differ_in_their_model_only(scale: str) -> None:
    for experiment in EXPERIMENTS:
        different = differences(composed(experiment, scale), composed(EXPERIMENTS[0], scale))
        assert all(name == "name" or name.startswith("model.") for name in different), different


@pytest.mark.parametrize("scale", IN_SCALES)
def test_widths_keep_the_papers_proportions(scale: str) -> None:
    """moe_1_wide and moe_1_deep cost what a word's four experts cost; lstm_2048_512 has four times d_model units."""
    sizes = composed("lm/moe_4", scale).scale
    width = sizes.d_hidden
    hidden = {row: composed(f"lm/{row}", scale).model.moe for row in ("moe_1_wide", "moe_1_deep", "moe_4", "moe_256")}
    assert {row: moe.d_hidden for row, moe in hidden.items() if moe} == {
        "moe_1_wide": [4 * width],
        "moe_1_deep": [width] * 4,
        "moe_4": [width],
        "moe_256": [sizes.d_hidden_of_256],
    }
    projected = composed("lm/lstm_2048_512", scale).model
    assert projected.lstm_units == 4 * projected.d_model


def test_at_paper_scale_the_sizes_and_dropout_are_the_papers() -> None:
    printed = {row.model: row for row in table_7(PUBLISHED)}
    for experiment in EXPERIMENTS:
        config = composed(experiment, "paper")
        assert (config.model.d_model, config.scale.d_hidden, config.model.num_sampled) == (512, 1024, 8192)
        assert config.model.dropout == printed[experiment.removeprefix("lm/")].drop_prob
        assert (config.balance.w_importance, config.balance.w_load) == (0.1, 0.1)
        assert (config.trainer.max_epochs, config.trainer.words_per_batch) == (10, 300_000)
        assert config.schedule.warmup_steps == 1000


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_preset_opens_with_its_row_and_its_command(experiment: str) -> None:
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8").splitlines()
    comment = "\n".join(line for line in lines if line.startswith("# "))
    row = experiment.removeprefix("lm/")
    assert re.search(rf"^# Table 7, row {row}: .* In print: [\d.]+.*, [\d.]+M ops/timestep\.$", comment, re.MULTILINE)
    assert f"\n# outrageous-train experiment={experiment}" in f"\n{comment}\n"
    perplexity, ops = re.findall(r"In print: ([\d.]+).*, ([\d.]+)M ops", comment)[0]
    (printed,) = [each for each in table_7(PUBLISHED) if each.model == row]
    assert (float(perplexity), float(ops)) == (printed.test_perplexity_10_epochs, printed.ops_per_timestep_millions)


@pytest.mark.parametrize("file", sorted((CONF / "sweep").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_sweep_lists_experiments_that_exist_and_names_its_group(file: Path) -> None:
    config = compose_train([f"sweep={file.stem}"], with_hydra=True)
    swept = [name.strip() for name in config.hydra.sweeper.params.experiment.split(",")]
    assert {*swept} <= {*EXPERIMENTS}
    assert len(swept) == len({*swept}) > 1
    assert config.hydra.mode.name == "MULTIRUN"
    assert (config.logger.group, config.logger.tags) == (file.stem, [file.stem])


def test_the_ladder_is_every_row_of_table_7_without_a_hierarchy() -> None:
    config = compose_train(["sweep=table_7"], with_hydra=True)
    assert sorted(config.hydra.sweeper.params.experiment.split(",")) == EXPERIMENTS


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda file: file.relative_to(CONF).as_posix())
def test_every_file_says_what_it_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert OmegaConf.create(text)
    assert text.startswith("# ")
    assert not re.match(r"# @package .*\n[^#]", text)
