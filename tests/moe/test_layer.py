"""The layer against a slow, obvious twin in float64: outputs, report, gradients."""

import math
from collections.abc import Sequence
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.testing import assert_close

from outrageous.moe import FeedForwardExperts, MoE, MoEReport, NoisyTopKGate, SoftmaxGate, balancing_loss


def expert_output(layer: MoE, expert: int, token: Tensor) -> Tensor:
    """E_i(x): feed-forward, ReLU in the middle, no biases."""
    assert isinstance(layer.experts, FeedForwardExperts)
    *hidden, last = [weight[expert] for weight in layer.experts.weights]
    for weight in hidden:
        token = (weight @ token).clamp_min(0)
    return last @ token


def kth_excluding(values: Sequence[Tensor], k: int, i: int) -> Tensor:
    """The k-th largest entry of values, leaving out entry i."""
    return sorted([value for j, value in enumerate(values) if j != i], reverse=True)[k - 1]


def softplus(x: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(x))


def normal_cdf(z: Tensor) -> Tensor:
    return (1 + torch.erf(z / math.sqrt(2))) / 2


def twin(layer: MoE, x: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Eq. 1-5 and 8-10, token by token and expert by expert: y [T, D], importance [N], load [N], tokens per expert."""
    gate = layer.gate
    assert isinstance(gate, NoisyTopKGate | SoftmaxGate)
    num_experts = gate.num_experts
    importance, load = [[torch.zeros((), dtype=x.dtype)] * num_experts for _ in range(2)]
    tokens_per_expert = [0] * num_experts
    outputs = []
    for t, token in enumerate(x):
        clean = [token @ gate.w_gate[:, i] for i in range(num_experts)]
        h, kept = clean, list(range(num_experts))
        if isinstance(gate, NoisyTopKGate):
            std = [softplus(token @ gate.w_noise[:, i]) for i in range(num_experts)]
            if noise is not None:
                h = [clean[i] + noise[t, i] * std[i] for i in range(num_experts)]  # Eq. 4
            kept = sorted(kept, key=lambda i: -h[i].item())[: gate.k]  # Eq. 5
        total = sum((torch.exp(h[i]) for i in kept), torch.zeros(()))
        output = torch.zeros_like(token)
        for i in kept:
            g = torch.exp(h[i]) / total  # Eq. 2 and 3
            output = output + g * expert_output(layer, i, token)  # Eq. 1
            importance[i] = importance[i] + g  # Eq. 6
            tokens_per_expert[i] += 1
        outputs.append(output)
        for i in range(num_experts):  # Eq. 9 and 10
            always = gate.k == num_experts
            p = torch.ones(()) if always else normal_cdf((clean[i] - kth_excluding(h, gate.k, i)) / std[i])
            load[i] = load[i] + p
    return torch.stack(outputs), torch.stack(importance), torch.stack(load), tokens_per_expert


def twin_cv_squared(values: Tensor) -> Tensor:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values) / mean**2


def build(gate: str, d_model: int, num_experts: int, k: int, d_hidden: list[int]) -> MoE:
    made: nn.Module
    made = SoftmaxGate(d_model, num_experts) if gate == "softmax" else NoisyTopKGate(d_model, num_experts, k)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=d_model**-0.5)
    return MoE(made, FeedForwardExperts(num_experts, d_model, d_hidden)).double()


def compare_with_twin(layer: MoE, num_tokens: int) -> None:
    d_model = layer.experts.d_model
    assert isinstance(d_model, int)
    x = torch.randn(num_tokens, d_model, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)
    noise_seed = 11
    torch.manual_seed(noise_seed)
    y, report = layer(x)
    torch.manual_seed(noise_seed)
    noise = torch.randn(num_tokens, report.load.numel(), dtype=torch.float64) if layer.training else None
    twin_y, importance, load, tokens_per_expert = twin(layer, x, noise)

    assert_close(y, twin_y, rtol=1e-9, atol=1e-9)
    assert_close(report.importance, importance, rtol=1e-9, atol=1e-9)
    assert_close(report.load, load, rtol=1e-9, atol=1e-9)
    assert report.tokens_per_expert.tolist() == tokens_per_expert

    inputs = [x, *layer.parameters()]
    losses = {
        "output": (y * direction).sum(),
        "balance": balancing_loss(report, 0.3, 0.7),
        "importance": balancing_loss(report, 1.0, 0.0),
        "load": balancing_loss(report, 0.0, 1.0),
    }
    twin_losses = {
        "output": (twin_y * direction).sum(),
        "balance": 0.3 * twin_cv_squared(importance) + 0.7 * twin_cv_squared(load),
        "importance": twin_cv_squared(importance),
        "load": twin_cv_squared(load),
    }
    assert_close(losses, twin_losses, rtol=1e-9, atol=1e-9)
    grads, twin_grads = [
        {name: gradients(loss, inputs) for name, loss in each.items()} for each in (losses, twin_losses)
    ]
    assert_close(grads, twin_grads, rtol=1e-9, atol=1e-9)


def gradients(loss: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    if not loss.requires_grad:  # the load loss with k = N
        return tuple(torch.zeros_like(tensor) for tensor in inputs)
    return torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("gate", "num_tokens", "num_experts", "k", "d_hidden"),
    [
        ("noisy", 9, 5, 2, [6]),
        ("noisy", 9, 5, 1, [6]),
        ("noisy", 9, 5, 4, [6]),
        ("noisy", 9, 5, 5, [6]),  # k = N
        ("noisy", 9, 1, 1, [6]),  # N = 1
        ("noisy", 1, 4, 2, [6]),  # one token
        ("noisy", 3, 12, 2, [6]),  # experts without tokens
        ("noisy", 7, 4, 2, [6, 3, 5]),  # several hidden layers
        ("softmax", 7, 4, 4, [6]),
        ("softmax", 7, 1, 1, [3, 3, 3, 3]),
    ],
)
def test_layer_equals_its_twin(
    gate: str, num_tokens: int, num_experts: int, k: int, d_hidden: list[int], training: bool
) -> None:
    layer = build(gate, 4, num_experts, k, d_hidden).train(training)
    compare_with_twin(layer, num_tokens)


@given(st.data(), st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_layer_equals_its_twin_at_any_size(
    data: st.DataObject, num_tokens: int, num_experts: int, d_model: int, d_hidden: int, training: bool
) -> None:
    """Gating takes one or several blocks of tokens, the last of which may be smaller."""
    k = data.draw(st.integers(1, num_experts))
    tokens_per_block = data.draw(st.integers(1, 6))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    layer = build("noisy", d_model, num_experts, k, [d_hidden]).train(training)
    with patch("outrageous.moe.noisy_top_k.ELEMENTS_PER_BLOCK", tokens_per_block * num_experts):
        compare_with_twin(layer, num_tokens)


@pytest.mark.parametrize(("gate", "training"), [("noisy", True), ("noisy", False), ("softmax", True)])
def test_layer_gradcheck(gate: str, training: bool) -> None:
    layer = build(gate, d_model=3, num_experts=4, k=2, d_hidden=[5]).train(training)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(3)  # the same noise each time
        y, report = functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))
        return y, report.importance, *([report.load] if gate == "noisy" else []), balancing_loss(report, 0.3, 0.7)

    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))


def test_twin_by_hand() -> None:
    # One token x = 1, two experts of one hidden unit, k = 1 in evaluation: W_g = (1, 2), so expert 1 alone, weight 1.
    # E_1(1) = 5 · ReLU(3 · 1) = 15. W_noise = 0, std = ln 2: P_0 = Φ((1 - 2) / ln 2) = Φ(-1.4427) = 0.07455 = 1 - P_1
    layer = MoE(NoisyTopKGate(1, 2, 1), FeedForwardExperts(2, 1, 1)).double().eval()
    with torch.no_grad():
        layer.gate.get_parameter("w_gate").copy_(torch.tensor([[1.0, 2.0]]))
        layer.experts.get_parameter("weights.0").copy_(torch.tensor([[[9.0]], [[3.0]]]))
        layer.experts.get_parameter("weights.1").copy_(torch.tensor([[[9.0]], [[5.0]]]))
    x = torch.ones(1, 1, dtype=torch.float64)
    y, report = layer(x)
    assert y.item() == pytest.approx(15)
    assert isinstance(report, MoEReport)
    assert report.load.tolist() == pytest.approx([0.07455, 0.92545], abs=1e-5)
    twin_y, importance, load, tokens_per_expert = twin(layer, x, None)
    assert (twin_y.item(), importance.tolist(), tokens_per_expert) == (pytest.approx(15), [0, 1], [0, 1])
    assert load.tolist() == pytest.approx([0.07455, 0.92545], abs=1e-5)
