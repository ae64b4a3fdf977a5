"""Every preset of translation composes at every scale and is the experiment that its name says."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from outrageous.commands.compose import experiments, translation_config
from outrageous.config import GateKind, TranslationRunConfig
from outrageous.models.gnmt import TranslationModel

SCALES = ("smoke", "pocket", "paper")
# experts, groups, k, hidden units for each of d_model, gate
ROWS = {
    "mt/moe_0": None,
    "mt/moe_32": (32, None, 4, 4, GateKind.strictly_balanced),
    "mt/moe_512_h": (512, 16, 2, 4, GateKind.strictly_balanced),
    "mt/moe_2048_h": (2048, 32, 2, 4, GateKind.strictly_balanced),
    "mt/multilingual_0": None,
    "mt/multilingual": (512, None, 2, 16, GateKind.noisy_top_k),
}


@cache
def composed(experiment: str, scale: str) -> TranslationRunConfig:
    return translation_config([f"experiment={experiment}", f"scale={scale}"])


def test_the_rows_are_the_files() -> None:
    assert {name for name in experiments() if name.startswith("mt/")} == {*ROWS}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", ROWS)
def test_a_preset_is_what_its_name_says_and_builds(experiment: str, scale: str) -> None:
    config = composed(experiment, scale)
    suffix = "" if experiment.startswith("mt/multilingual") else "_en_de"
    assert (config.name, config.scale.name) == (experiment + suffix, scale)
    moe = config.model.moe
    width = config.scale.d_model
    assert (config.model.d_model, config.model.lstm_units) == (width, 4 * width)
    if ROWS[experiment] is None:
        assert moe is None
    else:
        assert moe is not None
        assert moe.d_hidden[0] % width == 0
        sizes = (moe.num_experts, moe.num_groups, moe.gate.k, moe.d_hidden[0] // width, moe.gate.kind)
        assert sizes == ROWS[experiment]
        assert len(moe.d_hidden) == 1
    with torch.device("meta"):  # no memory for the weights
        TranslationModel(config.model, config.data.vocabulary_size)


@pytest.mark.parametrize("data", ["pocket_en_de", "pocket_en_fr", "wmt14_en_de"])
def test_the_other_direction_is_one_setting_and_names_the_run(data: str) -> None:
    there, back = (f"{data[-5:-3]}-{data[-2:]}", f"{data[-2:]}-{data[-5:-3]}")
    settings = ["experiment=mt/moe_32", "scale=pocket", f"data={data}"]
    one, other = translation_config(settings), translation_config([*settings, f"data.directions=[{back}]"])
    assert (one.data.directions, other.data.directions) == ([there], [back])
    assert other.name == f"mt/moe_32_{back.replace('-', '_')}"
    assert replace(other, name=one.name, data=one.data) == one


def test_at_paper_scale_the_sizes_are_the_papers() -> None:
    config = composed("mt/moe_2048_h", "paper")
    assert (config.model.d_model, config.model.lstm_units, config.model.dropout) == (512, 2048, 0.4)
    assert (config.schedule.warmup_steps, config.schedule.flat_until) == (2000, 10000)
    assert (config.balance.w_importance, config.balance.w_load) == (0.01, 0.01)
    assert config.trainer.words_per_batch == 64 * 16_000


@pytest.mark.parametrize("scale", SCALES)
def test_the_rows_of_one_direction_differ_in_their_mixtures_and_the_rate_of_experts_only(scale: str) -> None:
    plain = composed("mt/moe_0", scale)
    for experiment in ("mt/moe_32", "mt/moe_512_h", "mt/moe_2048_h"):
        other = composed(experiment, scale)
        assert other.optim.experts_learning_rate == pytest.approx(0.3 * plain.optim.learning_rate)
        other.model.moe, other.optim.experts_learning_rate, other.name = None, None, plain.name
        assert other == plain
    composed.cache_clear()
