"""Hierarchical mixtures against a slow, obvious twin in float64, with noisy and with strictly balanced gates."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from outrageous.moe import (
    FeedForwardExperts,
    Mixtures,
    MoE,
    NoisyTopKGate,
    NoisyTopKGates,
    StrictlyBalancedGate,
    StrictlyBalancedGates,
    cv_squared,
)

D_MODEL = 3


@dataclass
class Gated:
    """What a gate makes of T tokens: values [T][N] (None where the token does not use the expert) and load [N]."""

    gates: list[list[Tensor | None]]
    load: list[Tensor]
    threshold_loss: Tensor


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def noisy_gate(tokens: list[Tensor], w_gate: Tensor, w_noise: Tensor, k: int, noise: Tensor | None) -> Gated:
    """Eq. 3-5 and 8-10 with w_gate, w_noise [D, N] and noise [T, N]."""
    num_experts = w_gate.shape[1]
    gates: list[list[Tensor | None]] = []
    load = [zero() for _ in range(num_experts)]
    for t, token in enumerate(tokens):
        clean = [token @ w_gate[:, i] for i in range(num_experts)]
        std = [torch.log(1 + torch.exp(token @ w_noise[:, i])) for i in range(num_experts)]
        h = clean if noise is None else [clean[i] + noise[t, i] * std[i] for i in range(num_experts)]
        kept = sorted(range(num_experts), key=lambda i: -h[i].item())[:k]
        total = sum((torch.exp(h[i]) for i in kept), zero())
        gates.append([torch.exp(h[i]) / total if i in kept else None for i in range(num_experts)])
        for i in range(num_experts):
            others = sorted([h[j] for j in range(num_experts) if j != i], reverse=True)
            z = (clean[i] - others[k - 1]) / std[i] if k < num_experts else zero() + math.inf
            load[i] = load[i] + (1 + torch.erf(z / math.sqrt(2))) / 2
    return Gated(gates, load, zero())


def balanced_gate(tokens: list[Tensor], w_gate: Tensor, log_threshold: Tensor, k: int, training: bool) -> Gated:
    """Eq. 16-20 with w_gate [D, N], log_threshold [N]. L_batchwise is a sum here, over the tokens of this gate."""
    num_experts, threshold = w_gate.shape[1], log_threshold.exp()
    g = []
    for token in tokens:
        powers = [torch.exp(token @ w_gate[:, i]) for i in range(num_experts)]
        g.append([power / sum(powers) for power in powers])
    m = math.ceil(k * len(tokens) / num_experts)
    best = [sorted(range(len(tokens)), key=lambda t: -g[t][i].item())[:m] for i in range(num_experts)]
    loss, gates = zero(), []
    for t in range(len(tokens)):
        above = [bool(g[t][i] > threshold[i]) for i in range(num_experts)]
        among_best = [t in best[i] for i in range(num_experts)]
        mask = among_best if training else above
        for i in range(num_experts):
            loss = loss + (above[i] - among_best[i]) * (g[t][i].detach() - threshold[i])
        total = sum((g[t][i] for i in range(num_experts) if mask[i]), zero())
        gates.append([g[t][i] / total if mask[i] else None for i in range(num_experts)])
    load = [zero() + sum(row[i] is not None for row in gates) for i in range(num_experts)]
    return Gated(gates, load, loss if training else zero())


def apply_gate(gate: nn.Module, group: int | None, tokens: list[Tensor], noise: Tensor | None) -> Gated:
    """A primary gate (group None), or that of one group."""
    weights = {name: weight if group is None else weight[group] for name, weight in gate.named_parameters()}
    if isinstance(gate, NoisyTopKGate | NoisyTopKGates):
        return noisy_gate(tokens, weights["w_gate"], weights["w_noise"], gate.k, noise)
    assert isinstance(gate, StrictlyBalancedGate | StrictlyBalancedGates)
    return balanced_gate(tokens, weights["w_gate"], weights["log_threshold"], gate.k, gate.training)


@dataclass
class Result:
    """Of a whole layer: y [T, D], and the report's [N] and scalar."""

    y: Tensor
    importance: Tensor
    load: Tensor
    tokens_per_expert: list[int]
    threshold_loss: Tensor


def twin(layer: MoE, x: Tensor, seed: int) -> Result:
    """Eq. 12-14, group by group, token by token, expert by expert; the noise drawn as the layer draws it from seed."""
    mixtures = layer.experts
    assert isinstance(mixtures, Mixtures)
    assert isinstance(mixtures.gates, NoisyTopKGates | StrictlyBalancedGates)
    num_groups, per_group = mixtures.gates.num_groups, mixtures.gates.experts_per_group
    torch.manual_seed(seed)
    tokens = list(x.unbind(0))
    draws = layer.training and isinstance(layer.gate, NoisyTopKGate)
    primary = apply_gate(
        layer.gate, None, tokens, torch.randn(len(x), num_groups, dtype=torch.float64) if draws else None
    )
    chosen = [[t for t, gates in enumerate(primary.gates) if gates[i] is not None] for i in range(num_groups)]
    draws = layer.training and isinstance(mixtures.gates, NoisyTopKGates)
    noise = torch.randn(sum(map(len, chosen)), per_group, dtype=torch.float64) if draws else None
    y, importance, load, counts = [torch.zeros_like(token) for token in tokens], [], [], []
    threshold_loss, first = primary.threshold_loss / max(1, len(x)), 0
    num_rows = max(1, sum(map(len, chosen)))
    for i, of_group in enumerate(chosen):
        its_noise = None if noise is None else noise[first : first + len(of_group)]
        first += len(of_group)
        secondary = apply_gate(mixtures.gates, i, [tokens[t] for t in of_group], its_noise)
        threshold_loss = threshold_loss + secondary.threshold_loss / num_rows
        for j in range(per_group):
            importance.append(zero())
            counts.append(0)
            for row, t in enumerate(of_group):
                g, g_ij = primary.gates[t][i], secondary.gates[row][j]
                if g_ij is not None:
                    assert g is not None
                    y[t] = y[t] + g * g_ij * expert_output(mixtures.experts, i * per_group + j, tokens[t])  # Eq. 12
                    importance[-1] = importance[-1] + g * g_ij  # Eq. 13
                    counts[-1] += 1
            load.append(primary.load[i] * secondary.load[j] / len(of_group) if of_group else zero())  # Eq. 14
    return Result(torch.stack(y), torch.stack(importance), torch.stack(load), counts, threshold_loss)


def expert_output(experts: nn.Module, expert: int, token: Tensor) -> Tensor:
    hidden, out = (weight[expert] for weight in experts.parameters())
    return out @ (hidden @ token).clamp_min(0)


GATES: dict[str, tuple[type, type]] = {
    "noisy": (NoisyTopKGate, NoisyTopKGates),
    "balanced": (StrictlyBalancedGate, StrictlyBalancedGates),
    "balanced within noisy": (NoisyTopKGate, StrictlyBalancedGates),
    "noisy within balanced": (StrictlyBalancedGate, NoisyTopKGates),
}


def build(kind: str, num_groups: int, per_group: int, k: int, k_within: int, d_hidden: int = 4) -> MoE:
    primary, secondary = GATES[kind]
    experts = FeedForwardExperts(num_groups * per_group, D_MODEL, d_hidden)
    gates = secondary(num_groups, D_MODEL, per_group, k_within)
    layer = MoE(primary(D_MODEL, num_groups, k), Mixtures(gates, experts)).double()
    with torch.no_grad():
        for gate in (layer.gate, gates):
            for name, weight in gate.named_parameters():
                weight.add_(torch.randn_like(weight), alpha=0.5 if name == "log_threshold" else 1.0)
    return layer


def gradients(loss: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    if not loss.requires_grad:
        return tuple(torch.zeros_like(tensor) for tensor in inputs)
    return torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)


def compare_with_twin(layer: MoE, num_tokens: int) -> None:
    x = torch.randn(num_tokens, D_MODEL, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)
    torch.manual_seed(11)
    y, report = layer(x)
    expected = twin(layer, x, seed=11)
    assert report.tokens_per_expert.tolist() == expected.tokens_per_expert
    results, losses = [], []
    for result, its_y in ((report, y), (expected, expected.y)):
        results.append((its_y, result.importance, result.load, result.threshold_loss))
        losses.append(
            [(its_y * direction).sum(), cv_squared(result.importance), cv_squared(result.load), result.threshold_loss]
        )
    assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)
    inputs = [x, *layer.parameters()]
    grads, twin_grads = ([gradients(loss, inputs) for loss in each] for each in losses)
    assert_close(grads, twin_grads, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize(
    ("num_tokens", "num_groups", "per_group", "k", "k_within"),
    [
        (7, 3, 4, 2, 2),
        (7, 4, 3, 1, 2),
        (6, 2, 3, 2, 3),  # every expert: k = A and k = B
        (5, 1, 4, 1, 2),  # one group
        (5, 4, 1, 2, 1),  # one expert a group
        (1, 3, 3, 2, 2),  # one token
        (2, 6, 2, 1, 1),  # groups that nobody chooses
    ],
)
def test_a_hierarchy_equals_its_twin(
    kind: str, num_tokens: int, num_groups: int, per_group: int, k: int, k_within: int, training: bool
) -> None:
    compare_with_twin(build(kind, num_groups, per_group, k, k_within).train(training), num_tokens)


@given(st.data(), st.sampled_from(list(GATES)), st.booleans(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_a_hierarchy_equals_its_twin_at_any_size(
    data: st.DataObject, kind: str, training: bool, num_tokens: int, num_groups: int, per_group: int
) -> None:
    k, k_within = data.draw(st.integers(1, num_groups)), data.draw(st.integers(1, per_group))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    compare_with_twin(build(kind, num_groups, per_group, k, k_within).train(training), num_tokens)
