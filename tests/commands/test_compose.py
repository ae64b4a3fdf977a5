"""From overrides to settings, and what is said where they do not fit."""

from pathlib import Path

import pytest

from outrageous.commands.compose import (
    any_config,
    compose_train,
    experiments,
    from_plain,
    run_config,
    settings_errors,
    table_row,
    translation_config,
)
from outrageous.config import GateKind, Layer
from outrageous.errors import UserError
from outrageous.training.run_folder import plain_config

MOE = "experiment=lm/moe_32"


def test_the_command_line_has_the_last_word() -> None:
    config = run_config([MOE, "scale=smoke", "model.dropout=0.5", "scale.d_model=24", "trainer.max_steps=7"])
    assert (config.model.dropout, config.trainer.max_steps) == (0.5, 7)
    assert (config.model.d_model, config.model.lstm_units) == (24, 24)  # written in the sizes of the scale
    assert config.model.layers == [Layer.lstm, Layer.moe, Layer.lstm]
    assert config.model.moe is not None
    assert config.model.moe.gate.kind is GateKind.noisy_top_k


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "which experiment? Give experiment=… with one of lm/"),
        (["experiment=lm/moe_33"], "there is no experiment/lm/moe_33; outrageous-train --help lists what there is"),
        ([MOE, "scale=tiny"], "there is no scale/tiny; outrageous-train --help lists what there is"),
        ([MOE, "modle.dropout=0.1"], "Could not override 'modle.dropout': Key 'modle' not in 'RunConfig'"),
        ([MOE, "model.dropuot=0.1"], "Could not override 'model.dropuot': Key 'dropuot' not in 'LanguageModelConfig'"),
        (
            [MOE, "trainer.max_epochs=many"],
            "Error merging override trainer.max_epochs=many: "
            "Value 'many' of type 'str' could not be converted to Integer",
        ),
        ([MOE, "model.moe.gate.k=1.5"], "model.moe.gate.k=1.5: Value '1.5' of type 'float' could not be converted"),
        ([MOE, "model.layers=[lstm,mo]"], "model.layers=[lstm,mo]: Invalid value 'mo', expected one of [lstm, moe]"),
        ([MOE, "model.moe.d_hidden=32"], "model.moe.d_hidden=32: Invalid value assigned: int is not a ListConfig"),
        ([MOE, "seed=null"], "seed=null: field 'seed' is not Optional"),
        ([MOE, "data=text"], "data.path is not set: give data.path=…"),
        ([MOE, "model=lstm"], "model.layers is not set: give model.layers=…"),
        ([MOE, "seed"], "cannot read 'seed': settings are written KEY=VALUE"),
        ([MOE, "model.layers=[lstm"], "cannot read 'model.layers=[lstm': settings are written KEY=VALUE"),
        (
            ["experiment=lm/4xlstm_512", "model.moe.num_experts=3"],
            "one of model.moe.num_experts=3 belongs to settings that are null here, as model.moe is in a model without",
        ),
    ],
)
def test_a_mistake_is_named_in_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        run_config(overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_our_own_mistakes_stay_what_they_are() -> None:
    with pytest.raises(AssertionError, match="ours"), settings_errors([]):
        raise AssertionError("ours")


def test_composing_leaves_hydra_ready_for_the_next_time() -> None:
    with pytest.raises(UserError):
        compose_train(["scale=tiny"])
    assert compose_train([MOE, "seed=1"]).seed == 1
    assert compose_train([MOE]).seed == 0


@pytest.mark.parametrize("name", [name for name in experiments() if name.startswith("lm/")])
def test_settings_come_back_from_what_a_record_keeps(name: str) -> None:
    config = run_config([f"experiment={name}", "seed=3"])
    assert from_plain(plain_config(config)) == config


def test_a_record_of_another_version_is_refused() -> None:
    plain = plain_config(run_config([MOE]))
    with pytest.raises(UserError, match=r"stored configuration does not fit this version: .*flux"):
        from_plain(plain | {"flux": 1})
    with pytest.raises(UserError, match="seed"):
        from_plain({name: value for name, value in plain.items() if name != "seed"})


@pytest.mark.parametrize(
    ("overrides", "row"),
    [
        ([], "moe_32"),
        (["scale=pocket", "seed=2"], "moe_32"),
        (["paths.runs=elsewhere", "logger.group=mine", "logger.tags=[a]", "trainer.num_threads=1"], "moe_32"),
        (["hydra.verbose=true", "+hydra.job.name=x"], "moe_32"),
        (["sweep=table_7"], "moe_32"),
        (["scale.d_model=32"], None),  # not the scale of that name any more
        (["model.moe.num_experts=4"], None),
        (["seed=2", "trainer.max_epochs=1"], None),
        (["data=text", "data.path=a.txt"], None),
        (["++optim.learning_rate=1"], None),
    ],
)
def test_a_run_is_a_row_of_the_table_unless_its_result_was_changed(overrides: list[str], row: str | None) -> None:
    assert table_row(run_config([MOE]), [MOE, *overrides]) == row


@pytest.mark.parametrize(
    ("overrides", "row"),
    [
        ([], "mt_moe_32_en_de"),
        (["data=pocket_en_fr", "seed=1"], "mt_moe_32_en_fr"),
        (["data=pairs", "data.path=a.tsv", "data.directions=[en-nl]"], None),
        (["data=pocket_en_fr", "trainer.max_epochs=1"], None),
    ],
)
def test_a_row_of_translation_says_what_is_translated(overrides: list[str], row: str | None) -> None:
    overrides = ["experiment=mt/moe_32", *overrides]
    config = any_config(overrides)
    assert table_row(config, overrides) == row
    assert from_plain(plain_config(config)) == config


def test_a_model_by_another_name_is_still_of_its_task() -> None:
    for experiment in (MOE, "experiment=mt/moe_32"):
        config = any_config([experiment, "name=mine"])
        assert from_plain(plain_config(config)) == config


def test_all_that_is_not_set_is_named_at_once() -> None:
    with pytest.raises(UserError, match=r"data\.path is not set: give data\.path=… data\.directions=…"):
        any_config(["experiment=mt/moe_32", "data=pairs"])


def test_each_task_has_settings_of_its_own() -> None:
    translation = translation_config(["experiment=mt/moe_32", "scale=smoke"])
    assert (translation.name, translation.scale.name, translation.model.d_model) == ("mt/moe_32_en_de", "smoke", 16)
    with pytest.raises(UserError, match="mt/moe_32_en_de is a translation model: this is of language models only"):
        run_config(["experiment=mt/moe_32"])
    with pytest.raises(UserError, match="lm/moe_32 is a language model: this is of translation models only"):
        translation_config([MOE])
    with pytest.raises(UserError, match="num_sampled"):
        translation_config(["experiment=mt/moe_32", "model.num_sampled=3"])


def test_experiments_are_the_files() -> None:
    folder = Path(__file__).parents[2] / "conf" / "experiment"
    assert len(experiments()) == len(list(folder.rglob("*.yaml")))
    assert all((folder / f"{name}.yaml").is_file() for name in experiments())
