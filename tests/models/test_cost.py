"""Parameters and operations: counted by hand, and against the printed figures of table 7."""

import csv
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from outrageous.commands.compose import CONF, experiments, register, to_run_config
from outrageous.config import GateConfig, GateKind, LanguageModelConfig, Layer, MoEConfig
from outrageous.models.cost import Cost, cost
from outrageous.models.language_model import LanguageModel

TABLE_7 = Path(__file__).parents[2] / "results" / "published" / "table_7.csv"
ROWS = ["4xlstm_512", "lstm_2048_512", "moe_1_wide", "moe_1_deep", "moe_4", "moe_32", "moe_256"]
VOCABULARY_SIZE = 793_471


def build(experiment: str) -> LanguageModel:
    """The experiment at the paper's sizes, without memory for its weights."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = to_run_config(compose("train", overrides=[f"experiment={experiment}", "scale=paper"]))
    with torch.device("meta"):
        return LanguageModel(config.model, VOCABULARY_SIZE)


@pytest.fixture(scope="module")
def printed() -> dict[str, dict[str, str]]:
    with TABLE_7.open(encoding="utf-8", newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def test_every_experiment_of_table_7_is_counted() -> None:
    assert [name for name in experiments() if name.startswith("lm/")] == sorted(f"lm/{row}" for row in ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_costs_are_the_printed_ones(row: str, printed: dict[str, dict[str, str]]) -> None:
    counted = cost(build(f"lm/{row}"))
    assert f"{counted.params / 1e6:.1f}" == printed[row]["params_excluding_embedding_softmax_millions"]
    assert f"{counted.total_params / 1e9:.1f}" == printed[row]["total_params_billions"]
    if row == "moe_256":
        # LSTMs 2·4·512·1024, experts 4·2·512·1024, gates 2·512·256: 8.65 million, printed as 8.6
        assert counted.ops_per_timestep == 4_194_304 + 4_194_304 + 262_144
        assert printed[row]["ops_per_timestep_millions"] == "8.6"
    else:
        assert f"{counted.ops_per_timestep / 1e6:.1f}" == printed[row]["ops_per_timestep_millions"]


def tiny(*layers: Layer, units: int = 3, moe: MoEConfig | None = None) -> Cost:
    config = LanguageModelConfig(3, list(layers), lstm_units=units, dropout=0.0, num_sampled=4, moe=moe)
    return cost(LanguageModel(config, vocabulary_size=10))


def test_a_tiny_model_by_hand() -> None:
    moe = MoEConfig(GateConfig(GateKind.noisy_top_k, k=2), num_experts=4, d_hidden=[5])
    counted = tiny(Layer.lstm, Layer.moe, Layer.lstm, moe=moe)
    # LSTM: four gates of 3 units, each from 3 inputs and 3 recurrent: 4·3·6 = 72 multiply-adds; two of them 144.
    # MoE: two of the experts, 3·5 + 5·3 = 30 each: 60; W_g and W_noise, 3·4 each: 24.
    assert counted.ops_per_timestep == 144 + 60 + 24
    # Weights: as many in the LSTMs as multiply-adds; all four experts, 120; gates 24. No biases.
    assert counted.params == 144 + 120 + 24
    # embedding 10·3; softmax 10·3
    assert counted.total_params == 288 + 30 + 30
    # softmax over the true class and 4 sampled ones: 5·3 = 15 multiply-adds of 2 operations, three times over
    assert counted.flops_per_training_word == 6 * (228 + 15)


def test_a_projection_by_hand() -> None:
    # 5 units projected to 3, which recur: 4·5·(3 + 3) = 120, and 5·3 = 15
    counted = tiny(Layer.lstm, units=5)
    assert counted.ops_per_timestep == counted.params == 120 + 15


def test_a_softmax_gate_and_several_hidden_layers_by_hand() -> None:
    # Both experts: 3·5 + 5·2 + 2·3 = 31 each; one gate matrix 3·2
    counted = tiny(Layer.moe, moe=MoEConfig(GateConfig(GateKind.softmax), num_experts=2, d_hidden=[5, 2]))
    assert counted.ops_per_timestep == counted.params == 2 * 31 + 6
