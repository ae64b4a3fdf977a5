"""Memory that training takes on a device, predicted without allocating any: weights, gradients, optimizer, activations.

Layers and the (primary) gate are on every device, each expert or, in a hierarchy, each group on one (§3.1); a batch's
words are shared evenly, and so are the experts' rows. Everything is float32, as in the paper. Activations are what
PyTorch's CPU code keeps from the forward to the backward pass, two more copies of the sampled logits, which are alive
while the loss is computed, and the gradients of experts' rows, whose memory the layer keeps on a CPU from step to step.
Temporaries elsewhere and padding are not counted.

tests/models/test_predicted_memory.py holds this against the tensors that autograd saves, and the memory of a process.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from outrageous.models.language_model import LanguageModel
from outrageous.models.lstm import LSTM
from outrageous.models.sampled_softmax import tokens_at_once
from outrageous.moe import FeedForwardExperts, Mixtures, MoE, NoisyTopKGate, SoftmaxGate

BYTES = 4  # of a float32
ADAM_FLOATS = 2  # for each weight: both moments
# Floats kept for each unit and word: four gates, the cell before and after tanh, the output, where the LSTM has a
# projection; oneDNN, which computes the others, keeps more.
PROJECTED_LSTM_FLOATS, LSTM_FLOATS = 7, 16
# For each word and each expert a gate chooses among. Noisy: its logits and those of the noise.
# Strictly balanced: g, the mask, what it keeps, and the thresholds.
SOFTMAX_GATE_FLOATS, NOISY_GATE_FLOATS, BALANCED_GATE_FLOATS = 1, 2, 4
ROUTING_FLOATS = 12  # for each assignment: indices, weights, noise


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. gradients: of all weights at once."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """At the end of the forward pass, when the gradients of the step before are still there."""
        return self.weights + self.gradients + self.optimizer + self.activations


def predict_memory(
    model: LanguageModel, words_per_batch: int, num_devices: int, factored: bool, recompute: bool
) -> Memory:
    """
    Args:
        model: on the meta device, too.
        words_per_batch: of all devices together.
        num_devices: where it does not divide the number of experts (groups), the memory is that of the fullest device.
        factored: whether experts' weights have factored second moments and no first; Adam for all else.
        recompute: whether experts' hidden activations are computed again in the backward pass (appendix D).
    """
    share = dict.fromkeys(model.parameters(), 1.0)
    for moe in model.layers:
        if isinstance(moe, MoE):
            experts: Any = moe.experts
            num_units = experts.num_experts  # groups, in a hierarchy
            share |= dict.fromkeys(experts.parameters(), -(-num_units // num_devices) / num_units)
    banks = [module for module in model.modules() if isinstance(module, FeedForwardExperts)]
    expert_weights = {weight for bank in banks for weight in bank.parameters()}
    weights = optimizer = 0.0
    for parameter, part in share.items():
        size = BYTES * parameter.numel()
        weights += part * size
        if factored and parameter in expert_weights:  # means of rows and of columns
            optimizer += part * (size / parameter.shape[-1] + size / parameter.shape[-2])
        else:
            optimizer += part * ADAM_FLOATS * size
    words = -(-words_per_batch // num_devices)
    floats_per_word = kept_floats_per_word(model, recompute) + _row_gradient_floats(model)
    activations = BYTES * (words * floats_per_word + _sampled_floats(model, words))
    return Memory(round(weights), round(weights), round(optimizer), activations)


def kept_floats_per_word(model: LanguageModel, recompute: bool) -> int:
    """Numbers that autograd keeps for each word, in float32's size, but for what it keeps for a batch. The sampled
    logits are among them, as in a batch of a single chunk."""
    config = model.config
    floats = 2 + 2 * config.d_model + config.num_sampled + 5  # indices of both embeddings, softmax
    floats += sum(_layer_floats(layer, recompute) for layer in model.layers)
    if config.dropout > 0:
        floats += config.d_model * (1 + len(model.layers))
    return floats


def _sampled_floats(model: LanguageModel, words: int) -> int:
    """The sampled classes' embeddings, and the sampled logits twice more; these for a chunk of the words alone, where
    the batch has several: the others' are not kept either."""
    num_sampled, d_model = model.config.num_sampled, model.config.d_model
    at_once = min(words, tokens_at_once(num_sampled))
    return num_sampled * d_model + 2 * at_once * (num_sampled + 1) - (words - at_once) * num_sampled


def _row_gradient_floats(model: LanguageModel) -> int:
    """For each word: of what experts return, and of what they are given, at every level."""
    routings = sum(_rows_and_routings(layer)[1] for layer in model.layers if isinstance(layer, MoE))
    return 2 * routings * model.config.d_model


def _rows_and_routings(moe: MoE) -> tuple[int, int]:
    """For each word: rows of feed-forward experts, and assignments of both levels of a hierarchy."""
    gate: Any = moe.gate
    experts: Any = moe.experts
    if not isinstance(experts, Mixtures):
        return gate.k, gate.k
    gates: Any = experts.gates
    rows = gate.k * gates.k
    return rows, gate.k + rows


def _layer_floats(layer: nn.Module, recompute: bool) -> int:
    if isinstance(layer, LSTM):
        projected = layer.num_units != layer.d_model
        per_unit = PROJECTED_LSTM_FLOATS if projected else LSTM_FLOATS
        return 2 * layer.d_model + per_unit * layer.num_units  # input and output, too
    assert isinstance(layer, MoE)
    return _moe_floats(layer, recompute)


def _moe_floats(moe: MoE, recompute: bool) -> int:
    gate: Any = moe.gate
    experts: Any = moe.experts
    rows, routings = _rows_and_routings(moe)
    choices = gate.num_experts
    if isinstance(experts, Mixtures):
        gates: Any = experts.gates
        choices += gate.k * gates.experts_per_group
        experts = experts.experts
    # Tokens, the sigmoid's output, and rows sorted by group, by expert, and what these make of them.
    floats = (2 + 2 * routings) * experts.d_model
    if not recompute:
        floats += rows * sum(experts.d_hidden)
    result: int = floats + _gate_floats(gate) * choices + ROUTING_FLOATS * routings
    return result


def _gate_floats(gate: nn.Module) -> int:
    if isinstance(gate, SoftmaxGate):
        return SOFTMAX_GATE_FLOATS
    return NOISY_GATE_FLOATS if isinstance(gate, NoisyTopKGate) else BALANCED_GATE_FLOATS
