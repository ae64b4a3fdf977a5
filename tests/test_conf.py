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
from outrageous.results.published import has_equal_ops, read_cells
from outrageous.results.records import SCALES
from outrageous.training.run_folder import plain_config
from outrageous.training.settings import check_settings

EXPERIMENTS = [name for name in experiments() if name.startswith("lm/")]
TABLE_6 = [name for name in EXPERIMENTS if name.startswith("lm/balance_")]
TABLE_8 = [name for name in EXPERIMENTS if name.startswith("lm/news_")]
TABLE_7 = [name for name in EXPERIMENTS if name not in TABLE_6 + TABLE_8]
IN_SCALES = [scale for scale in SCALES if (CONF / "scale" / f"{scale}.yaml").exists()]
PUBLISHED = CONF.parent / "results" / "published"


def printed_rows(table: str) -> dict[str, dict[str, str]]:
    """The cells of table 7 or 8 by model."""
    return {row["model"]: row for row in read_cells(PUBLISHED / f"{table}.csv")}


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
    "optim.learning_rate",  # falls with the width
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
    assert {"smoke", "pocket", "workstation", "paper"} == {*IN_SCALES}
    assert [file.stem for file in (CONF / "scale").glob("*.yaml") if file.stem not in SCALES] == []
    assert (len(TABLE_6), len(TABLE_7), len(TABLE_8)) == (6, 15, 8)


def test_every_printed_row_with_a_model_is_an_experiment() -> None:
    """Jozefowicz's lstm_2048_512 is the model of the paper's own row; a 5-gram has no layers."""
    assert {f"lm/{row}" for row in printed_rows("table_7")} - {*TABLE_7} == {
        "lm/kneser_ney_5gram",
        "lm/lstm_2048_512_jozefowicz",
    }
    assert {f"lm/news_{row}" for row in printed_rows("table_8")} - {*TABLE_8} == {"lm/news_kneser_ney_5gram"}


@pytest.mark.parametrize("scale", IN_SCALES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_preset_is_checked_against_the_schema_and_builds(experiment: str, scale: str) -> None:
    config = composed(experiment, scale)
    check_settings(config)
    with torch.device("meta"):  # no memory for the weights
        model = LanguageModel(config.model, vocabulary_size=config.data.max_size or 793_471)
    assert (config.name, config.scale.name) == (experiment, scale)
    assert model.config.d_model % config.scale.d_model == 0


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_scale_changes_sizes_and_budgets_only(experiment: str) -> None:
    for scale in IN_SCALES:
        assert differences(composed(experiment, scale), composed(experiment, "paper")) <= SIZES_AND_BUDGETS


@pytest.mark.parametrize("rows", [TABLE_7, TABLE_8], ids=["table_7", "table_8"])
@pytest.mark.parametrize("scale", IN_SCALES)
def test_the_rows_of_a_table_differ_in_their_model_only(scale: str, rows: list[str]) -> None:
    for experiment in rows:
        different = differences(composed(experiment, scale), composed(rows[0], scale))
        # One has no experts to have an optimizer of their own, one a lower learning rate for its four layers.
        allowed = ("name", "optim.experts", "optim.experts_learning_rate")
        assert all(name in allowed or name.startswith("model.") for name in different), different


@pytest.mark.parametrize("scale", IN_SCALES)
def test_the_rows_of_table_6_are_moe_256_with_other_weights_of_the_losses(scale: str) -> None:
    different = [differences(composed(experiment, scale), composed("lm/moe_256", scale)) for experiment in TABLE_6]
    assert all(names <= {"name", "balance.w_importance", "balance.w_load"} for names in different)


@pytest.mark.parametrize("scale", ["pocket", "smoke"])
def test_below_paper_scale_the_budget_of_all_tables_is_that_of_the_scale_but_for_table_8s_one_pass(scale: str) -> None:
    different = differences(composed("lm/news_moe_256_h", scale), composed("lm/moe_256_h", scale))
    assert {name for name in different if not name.startswith(("name", "optim.", "model.moe."))} <= {
        "trainer.max_epochs",
        "trainer.validate_every",
    }


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


def test_at_paper_scale_the_sizes_and_dropout_of_table_7_are_the_papers() -> None:
    printed = printed_rows("table_7")
    twice_as_wide = {"lm/moe_34m", "lm/moe_143m", "lm/2xlstm_8192_1024"}
    for experiment in TABLE_7:
        config = composed(experiment, "paper")
        assert config.model.d_model == (1024 if experiment in twice_as_wide else 512)
        assert (config.scale.d_hidden, config.model.num_sampled) == (1024, 8192)
        assert config.model.dropout == float(printed[experiment.removeprefix("lm/")]["drop_prob"])
        assert (config.balance.w_importance, config.balance.w_load) == (0.1, 0.1)
        assert (config.trainer.max_epochs, config.trainer.words_per_batch) == (10, 300_000)
        assert config.schedule.warmup_steps == 1000


@pytest.mark.parametrize("scale", IN_SCALES)
def test_table_8_is_one_pass_with_a_look_at_each_tenth_of_it(scale: str) -> None:
    for experiment in TABLE_8:
        trainer = composed(experiment, scale).trainer
        assert (trainer.max_epochs, trainer.validate_every) == (1, 0.05)


def test_at_paper_scale_table_8_has_large_batches_and_no_dropout() -> None:
    for experiment in TABLE_8:
        config = composed(experiment, "paper")
        assert config.trainer.words_per_batch == 2_500_000
        assert (config.data.max_size, config.model.dropout) == (100_000, 0.0)


@pytest.mark.parametrize(
    ("experiment", "num_groups"),
    [
        *[(f"lm/moe_{n}_h", 16) for n in (256, 1024, 4096)],
        *[("lm/moe_34m", 32), ("lm/moe_143m", 32)],
        *[(f"lm/news_moe_{n}_h", a) for n, a in ((256, 32), (1024, 32), (4096, 64))],
        *[(f"lm/news_moe_{n}_h", a) for n, a in ((16384, 128), (65536, 256), (131072, 256))],
    ],
)
def test_a_hierarchy_chooses_two_groups_and_two_experts_of_each(experiment: str, num_groups: int) -> None:
    moe = composed(experiment, "paper").model.moe
    assert moe is not None
    assert (moe.num_groups, moe.gate.k) == (num_groups, 2)
    if experiment.endswith("_h"):
        assert moe.num_experts == int(experiment.split("_")[-2])


def comment_of(experiment: str) -> str:
    """What the file says before its settings, on one line, and that its command stands there."""
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    assert f"outrageous-train experiment={experiment}" in comment
    return " ".join(comment)


@pytest.mark.parametrize("experiment", TABLE_7)
def test_a_preset_of_table_7_opens_with_its_row(experiment: str) -> None:
    row = experiment.removeprefix("lm/")
    perplexity, ops = _in_print(rf"Table 7, row {row}\b.*: ", comment_of(experiment))
    printed = printed_rows("table_7")[row]
    expected = printed["test_perplexity_10_epochs"] or printed["test_perplexity_final"]
    assert (perplexity, ops) == (float(expected), float(printed["ops_per_timestep_millions"]))


@pytest.mark.parametrize("experiment", TABLE_8)
def test_a_preset_of_table_8_opens_with_its_row(experiment: str) -> None:
    row = experiment.removeprefix("lm/news_")
    found = _in_print(rf"Table 8, row {row}: ", comment_of(experiment))
    printed = printed_rows("table_8")[row]
    assert found == (float(printed["test_perplexity_1_epoch"]), float(printed["ops_per_timestep_millions"]))


def _in_print(opening: str, comment: str) -> tuple[float, float]:
    [(perplexity, ops)] = re.findall(rf"{opening}.*\. In print: ([\d.]+).*, ([\d.]+)M ops/timestep\.", comment)
    return float(perplexity), float(ops)


def test_the_presets_of_table_6_are_its_rows_and_open_with_them() -> None:
    for cells in read_cells(PUBLISHED / "table_6.csv"):
        printed = {name: float(cell) for name, cell in cells.items()}
        w_importance, w_load = printed["w_importance"], printed["w_load"]
        experiment = f"lm/balance_{w_importance:g}_{w_load:g}"
        balance = composed(experiment, "paper").balance
        assert (balance.w_importance, balance.w_load) == (w_importance, w_load)
        numbers = [
            float(number) for number in re.findall(r"(?<=[ .])\d+\.\d+", comment_of(experiment).split("experiment=")[0])
        ]
        assert numbers == [*printed.values()]


@pytest.mark.parametrize("file", sorted((CONF / "sweep").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_sweep_lists_experiments_that_exist_and_names_its_group(file: Path) -> None:
    config = compose_train([f"sweep={file.stem}"], with_hydra=True)
    names = swept(file.stem)
    assert {*names} <= {*experiments()}
    assert len(names) == len({*names}) > 1
    assert config.hydra.mode.name == "MULTIRUN"
    assert (config.logger.group, config.logger.tags) == (file.stem, [file.stem])


def swept(sweep: str) -> list[str]:
    config = compose_train([f"sweep={sweep}"], with_hydra=True)
    return [name.strip() for name in config.hydra.sweeper.params.experiment.split(",")]


def test_sweeps_of_tables_are_whole() -> None:
    assert sorted(swept("table_6")) == TABLE_6
    assert sorted(swept("table_7_whole")) == TABLE_7
    assert sorted(swept("table_8")) == sorted(swept("figure_3")) == TABLE_8


def test_the_ladder_is_the_flat_models_of_table_7_and_their_baselines() -> None:
    baselines = {"lm/lstm_2048_512", "lm/4xlstm_512"}
    models = {name: composed(name, "paper").model for name in TABLE_7}
    flat_models = {name for name, model in models.items() if model.moe and model.moe.num_groups is None}
    assert {*swept("table_7")} == baselines | flat_models


def test_figure_2_left_is_the_models_of_eight_million_operations() -> None:
    ops = {row: float(cells["ops_per_timestep_millions"]) for row, cells in printed_rows("table_7").items()}
    assert {*swept("figure_2_left")} == {f"lm/{row}" for row in ops if has_equal_ops(ops[row])}
    assert {"lm/moe_4096_h", "lm/moe_34m", "lm/moe_143m"} <= {*swept("figure_2_right")}


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda file: file.relative_to(CONF).as_posix())
def test_every_file_says_what_it_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert OmegaConf.create(text)
    assert text.startswith("# ")
    assert not re.match(r"# @package .*\n[^#]", text)
