"""The layer in every dtype, under autocast, with extreme logits and without tokens: finite, and near float64."""

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from outrageous.moe import (
    FeedForwardExperts,
    Mixtures,
    MoE,
    NoisyTopKGate,
    NoisyTopKGates,
    SoftmaxGate,
    StrictlyBalancedGate,
    StrictlyBalancedGates,
    balancing_loss,
    utilisation,
)

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
# Of six experts each token uses two on average, in a hierarchy one of each of two groups of three.
LAYERS: dict[str, Callable[[], MoE]] = {
    "noisy": lambda: MoE(NoisyTopKGate(8, 6, 2), FeedForwardExperts(6, 8, 16)),
    "balanced": lambda: MoE(StrictlyBalancedGate(8, 6, 2), FeedForwardExperts(6, 8, 16)),
    "noisy hierarchy": lambda: MoE(
        NoisyTopKGate(8, 3, 2), Mixtures(NoisyTopKGates(3, 8, 2, 1), FeedForwardExperts(6, 8, 16))
    ),
    "balanced hierarchy": lambda: MoE(
        StrictlyBalancedGate(8, 3, 2), Mixtures(StrictlyBalancedGates(3, 8, 2, 1), FeedForwardExperts(6, 8, 16))
    ),
}


def build(kind: str = "noisy", gate_scale: float = 1.0, noise_scale: float = 1.0) -> MoE:
    """A layer of d_model 8; the scales are the size of the logits for tokens of ±1 in one coordinate."""
    layer = LAYERS[kind]()
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            if name.endswith(("w_gate", "w_noise")):
                weight.copy_((gate_scale if name.endswith("w_gate") else noise_scale) * torch.randn_like(weight).sign())
    return layer


def one_hot_tokens(num_tokens: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.eye(8, dtype=dtype)[torch.randint(8, (num_tokens,))] * torch.randn(num_tokens, 1).sign().to(dtype)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gate_scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize(
    ("kind", "noise_scale"),
    [*itertools.product(["noisy", "noisy hierarchy"], [0.0, 1.0, 1e4]), ("balanced", 0), ("balanced hierarchy", 0)],
)
def test_finite_forward_and_backward(
    kind: str, gate_scale: float, noise_scale: float, dtype: torch.dtype, training: bool
) -> None:
    layer = build(kind, gate_scale, noise_scale).to(dtype).train(training)
    x = one_hot_tokens(20, dtype).requires_grad_()
    y, report = layer(x)
    loss = y.float().square().sum() + balancing_loss(report, 0.1, 0.1) + report.threshold_loss
    loss.backward()

    assert y.dtype == dtype
    assert y.isfinite().all()
    assert ((report.load >= 0) & (report.load <= 20)).all()
    if "noisy" in kind:
        assert report.tokens_per_expert.sum() == 40
        assert_close(report.importance.sum().item(), 20.0, rtol=1e-5, atol=1e-5)
    elif training:  # flat: m = ⌈2·20/6⌉ = 7; in a hierarchy ⌈2·20/3⌉ = 14 for a group, ⌈1·14/2⌉ = 7 for its experts
        assert report.tokens_per_expert.tolist() == [7] * 6
    assert all(figure.isfinite() for figure in utilisation(report).values())
    for name, tensor in [("x", x), *layer.named_parameters()]:
        assert tensor.grad is None or tensor.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_lower_precision_follows_float64(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    layer = build(kind, gate_scale=0.5, noise_scale=0.5).to(dtype).eval()
    x = torch.randn(30, 8, dtype=dtype)
    y, report = layer(x)
    exact_y, exact_report = copy.deepcopy(layer).double()(x.double())
    assert_close(y.double(), exact_y, rtol=tolerance, atol=tolerance)
    # the gate computes in float32 at least: even bfloat16 tokens are routed as in float64
    assert torch.equal(report.tokens_per_expert, exact_report.tokens_per_expert)
    assert_close(report.load.double(), exact_report.load, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [*LAYERS, "softmax"])
def test_autocast(kind: str) -> None:
    layer = MoE(SoftmaxGate(8, 3), FeedForwardExperts(3, 8, 16)) if kind == "softmax" else build(kind)
    x = torch.randn(5, 4, 8, requires_grad=True)
    torch.manual_seed(1)
    exact, exact_report = layer(x)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, report = layer(x)
        loss = y.float().square().mean() + balancing_loss(report, 0.1, 0.1) + report.threshold_loss
    loss.backward()

    assert y.dtype == torch.bfloat16  # as nn.Linear would give
    assert_close(y.float(), exact, rtol=0.05, atol=0.05)
    # the gate is not autocast: same choices, same report
    assert torch.equal(report.tokens_per_expert, exact_report.tokens_per_expert)
    assert_close(report.importance, exact_report.importance)
    assert_close(report.load, exact_report.load)
    for name, tensor in [("x", x), *layer.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.dtype == torch.float32, name
        assert tensor.grad.isfinite().all(), name


def test_noise_too_small_for_float32_changes_no_choice() -> None:
    layer = build(gate_scale=1e4, noise_scale=0.0)
    with torch.no_grad():
        layer.gate.get_parameter("w_noise").fill_(-1e4)
    x = torch.eye(8)[:4]  # softplus(-10,000) underflows to 0, where Eq. 9 would divide by it
    noisy, report = layer(x)
    clean, _ = layer.eval()(x)
    assert_close(noisy, clean)
    assert report.load.isfinite().all()


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", LAYERS)
def test_an_empty_batch(kind: str, training: bool) -> None:
    layer = build(kind).train(training)
    x = torch.randn(0, 8, requires_grad=True)
    y, report = layer(x)
    (y.sum() + balancing_loss(report, 0.1, 0.1) + report.threshold_loss).backward()
    assert y.shape == (0, 8)
    assert report.tokens_per_expert.tolist() == [0] * 6
    assert all(figure == 0 for figure in utilisation(report).values())
    assert all(weight.grad is None or weight.grad.eq(0).all() for weight in layer.parameters())


def test_bfloat16_importance_counts_many_tokens_exactly() -> None:
    # Added up in bfloat16, 256 + 1 would stay 256.
    layer = MoE(NoisyTopKGate(8, 1, 1), FeedForwardExperts(1, 8, 4)).bfloat16()
    _, report = layer(torch.randn(1000, 8, dtype=torch.bfloat16))
    assert report.importance.item() == report.load.item() == 1000
