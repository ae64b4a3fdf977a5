"""Parameters and operations as the paper counts them (tables 1 to 5, 7 and 8).

ops/timestep = multiply-adds of one token's forward pass, without the softmax in language models and with it in
translation, where a timestep is a source word and a target word. What attention does for each *pair* of words is not
counted: it has no weights, and depends on the sentences' lengths. Only the used experts count and, in a
hierarchy, the primary gate and those of the k chosen groups; a noisy gate counts both of its matrices. Parameters leave
out embedding and softmax, unless they are the total. Biases are not counted: the printed figures come out without them
(lstm_2048_512 has 9.44M weights, printed 9.4; 9.45M with biases).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import nn

from outrageous.models.gnmt import TranslationModel
from outrageous.models.language_model import LanguageModel
from outrageous.models.lstm import LSTM
from outrageous.moe import Mixtures, MoE, NoisyTopKGate


@dataclass(frozen=True)
class Cost:
    """
    Attributes:
        ops_per_timestep: multiply-adds.
        params: without embeddings and softmax.
        total_params: with them.
        flops_per_training_word: floating-point operations of forward and backward for each predicted word, the
            (sampled) softmax included: a multiply-add is 2, forward and backward are 3 times the forward pass.
    """

    ops_per_timestep: int
    params: int
    total_params: int
    flops_per_training_word: int


def cost(model: LanguageModel | TranslationModel) -> Cost:
    """Counts a model, on the meta device too."""
    if isinstance(model, TranslationModel):
        return _translation_cost(model)
    ops = sum(_layer_ops(layer) for layer in model.layers)
    softmax_ops = model.config.d_model * (1 + model.config.num_sampled)
    return Cost(
        ops_per_timestep=ops,
        params=_num_params(model.layers),
        total_params=_num_params(model),
        flops_per_training_word=2 * 3 * (ops + softmax_ops),
    )


def _translation_cost(model: TranslationModel) -> Cost:
    encoder, decoder = model.encoder, model.decoder
    mixtures = [moe for moe in (encoder.moe, decoder.moe) if moe is not None]
    layers = [*encoder.lstms, decoder.first.lstm, decoder.second, *mixtures]
    attention, softmax = decoder.first.attention, model.softmax
    attention_ops = _num_params(attention)  # of the source word a key, of the target word a query
    ops = sum(_layer_ops(layer) for layer in layers) + attention_ops + _num_params(softmax)
    tables = [encoder.embedding, decoder.embedding, softmax]
    return Cost(
        ops_per_timestep=ops,
        params=_num_params(model) - sum(_num_params(table) for table in tables),
        total_params=_num_params(model),
        flops_per_training_word=2 * 3 * ops,
    )


def _layer_ops(layer: nn.Module) -> int:
    if isinstance(layer, LSTM):
        return _num_params(layer)  # each weight is used once
    assert isinstance(layer, MoE)
    return _moe_ops(layer)


def expert_ops(model: nn.Module) -> int:
    """Multiply-adds of the forward pass of the experts that a word uses, without gates, in all MoEs together."""
    return sum(_ops_of_experts(moe) for moe in model.modules() if isinstance(moe, MoE))


def _moe_ops(moe: MoE) -> int:
    gate: Any = moe.gate
    experts: Any = moe.experts
    choices = gate.num_experts
    if isinstance(experts, Mixtures):
        choices += gate.k * experts.gates.experts_per_group
        experts = experts.experts
    matrices = 2 if isinstance(gate, NoisyTopKGate) else 1
    ops: int = _ops_of_experts(moe) + matrices * experts.d_model * choices
    return ops


def _ops_of_experts(moe: MoE) -> int:
    gate: Any = moe.gate
    experts: Any = moe.experts
    used: int = gate.k
    if isinstance(experts, Mixtures):
        gates: Any = experts.gates
        used *= gates.k
        experts = experts.experts
    widths = [experts.d_model, *experts.d_hidden, experts.d_model]
    return used * sum(a * b for a, b in pairwise(widths))


def _num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() > 1)  # all but biases
