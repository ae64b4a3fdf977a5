"""Parameters and operations, counted by hand. tests/commands/test_audit.py holds them against the printed figures."""

from outrageous.config import GateConfig, GateKind, LanguageModelConfig, Layer, MoEConfig, TranslationModelConfig
from outrageous.models.cost import Cost, cost
from outrageous.models.gnmt import TranslationModel
from outrageous.models.language_model import LanguageModel


def tiny(*layers: Layer, units: int = 3, moe: MoEConfig | None = None, project: bool = False) -> Cost:
    config = LanguageModelConfig(3, list(layers), units, dropout=0.0, num_sampled=4, moe=moe, project_lstm=project)
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
    # 3 units projected to 3: 72 and 9
    assert tiny(Layer.lstm, project=True).ops_per_timestep == 72 + 9


def test_a_softmax_gate_and_several_hidden_layers_by_hand() -> None:
    # Both experts: 3·5 + 5·2 + 2·3 = 31 each; one gate matrix 3·2
    counted = tiny(Layer.moe, moe=MoEConfig(GateConfig(GateKind.softmax), num_experts=2, d_hidden=[5, 2]))
    assert counted.ops_per_timestep == counted.params == 2 * 31 + 6


def test_a_hierarchy_by_hand() -> None:
    """Three groups of four experts, two of each used."""
    noisy = MoEConfig(GateConfig(GateKind.noisy_top_k, k=2), num_experts=12, d_hidden=[5], num_groups=3)
    counted = tiny(Layer.moe, moe=noisy)
    # 2·2 experts of 30; the primary gate's two matrices 2·3·3 = 18, those of two secondary gates 2·(2·3·4) = 48
    assert counted.ops_per_timestep == 120 + 18 + 48
    # all 12 experts; the primary gate, and three secondary ones
    assert counted.params == 360 + 18 + 72
    balanced = MoEConfig(GateConfig(GateKind.strictly_balanced, k=2), num_experts=12, d_hidden=[5], num_groups=3)
    assert tiny(Layer.moe, moe=balanced).ops_per_timestep == 120 + 9 + 24  # no matrices for noise


def test_a_translation_model_by_hand() -> None:
    moe = MoEConfig(GateConfig(GateKind.strictly_balanced, k=2), num_experts=4, d_hidden=[5])
    counted = cost(TranslationModel(TranslationModelConfig(3, 5, dropout=0.0, moe=moe), vocabulary_size=10))
    # Four LSTMs of 5 units projected to 3: 4·5·(3 + 3) + 5·3 = 135 each; the one with a context of 3 as further input
    # 4·5·(6 + 3) + 15 = 195. Two MoEs: two experts of 30 and one gate matrix of 3·4, 72 each. Attention: U and W, 9
    # each. Softmax: 10·3.
    assert counted.ops_per_timestep == 4 * 135 + 195 + 2 * 72 + 18 + 30
    # All four experts of each MoE; no softmax. The attention's V is as long as a bias, and counted as little.
    assert counted.params == 4 * 135 + 195 + 2 * (4 * 30 + 12) + 18
    # Two embeddings and the softmax, 10·3 each.
    assert counted.total_params == counted.params + 3 * 30
    assert counted.flops_per_training_word == 6 * counted.ops_per_timestep
