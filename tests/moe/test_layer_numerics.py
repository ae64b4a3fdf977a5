"""The layer in every dtype, under autocast, with extreme logits and without tokens: finite, and near float64."""

import copy

import pytest
import torch
from torch.testing import assert_close

from outrageous.moe import FeedForwardExperts, MoE, NoisyTopKGate, SoftmaxGate, balancing_loss, utilisation

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def build(num_experts: int = 6, k: int = 2, gate_scale: float = 1.0, noise_scale: float = 1.0) -> MoE:
    """A layer of d_model 8; the scales are the size of the logits for tokens of ±1 in one coordinate."""
    gate = NoisyTopKGate(8, num_experts, k)
    with torch.no_grad():
        gate.w_gate.copy_(gate_scale * torch.randn(8, num_experts).sign())
        gate.w_noise.copy_(noise_scale * torch.randn(8, num_experts).sign())
    return MoE(gate, FeedForwardExperts(num_experts, 8, 16))


def one_hot_tokens(num_tokens: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.eye(8, dtype=dtype)[torch.randint(8, (num_tokens,))] * torch.randn(num_tokens, 1).sign().to(dtype)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gate_scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("noise_scale", [0.0, 1.0, 1e4])
def test_finite_forward_and_backward(gate_scale: float, noise_scale: float, dtype: torch.dtype, training: bool) -> None:
    layer = build(gate_scale=gate_scale, noise_scale=noise_scale).to(dtype).train(training)
    x = one_hot_tokens(20, dtype).requires_grad_()
    y, report = layer(x)
    (y.float().square().sum() + balancing_loss(report, 0.1, 0.1)).backward()

    assert y.dtype == dtype
    assert y.isfinite().all()
    assert report.tokens_per_expert.sum() == 40
    assert ((report.load >= 0) & (report.load <= 20)).all()
    assert_close(report.importance.sum().item(), 20.0, rtol=1e-5, atol=1e-5)
    assert all(figure.isfinite() for figure in utilisation(report).values())
    for name, tensor in [("x", x), *layer.named_parameters()]:
        assert tensor.grad is None or tensor.grad.isfinite().all(), name
    assert x.grad is not None


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_lower_precision_follows_float64(dtype: torch.dtype, tolerance: float) -> None:
    layer = build(gate_scale=0.5, noise_scale=0.5).to(dtype).eval()
    x = torch.randn(30, 8, dtype=dtype)
    y, report = layer(x)
    exact_y, exact_report = copy.deepcopy(layer).double()(x.double())
    assert_close(y.double(), exact_y, rtol=tolerance, atol=tolerance)
    # the gate computes in float32 at least: even bfloat16 tokens are routed as in float64
    assert torch.equal(report.tokens_per_expert, exact_report.tokens_per_expert)
    assert_close(report.load.double(), exact_report.load, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gate", ["noisy", "softmax"])
def test_autocast(gate: str) -> None:
    layer = build() if gate == "noisy" else MoE(SoftmaxGate(8, 3), FeedForwardExperts(3, 8, 16))
    x = torch.randn(5, 4, 8, requires_grad=True)
    torch.manual_seed(1)
    exact, exact_report = layer(x)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, report = layer(x)
        loss = y.float().square().mean() + balancing_loss(report, 0.1, 0.1)
    loss.backward()

    assert y.dtype == torch.bfloat16  # as nn.Linear would give
    assert_close(y.float(), exact, rtol=0.05, atol=0.05)
    # the gate is not autocast: same choices, same report
    assert torch.equal(report.tokens_per_expert, exact_report.tokens_per_expert)
    assert_close(report.importance, exact_report.importance)
    assert_close(report.load, exact_report.load)
    for tensor in (x, *layer.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.dtype == torch.float32
        assert tensor.grad.isfinite().all()


def test_noise_too_small_for_float32_changes_no_choice() -> None:
    layer = build(gate_scale=1e4, noise_scale=0.0)
    with torch.no_grad():
        layer.gate.get_parameter("w_noise").fill_(-1e4)
    x = torch.eye(8)[:4]  # softplus(-10,000) underflows to 0, where Eq. 9 would divide by it
    noisy, report = layer(x)
    clean, _ = layer.eval()(x)
    assert_close(noisy, clean)
    assert report.load.isfinite().all()


def test_an_empty_batch() -> None:
    layer = build()
    x = torch.randn(0, 8, requires_grad=True)
    y, report = layer(x)
    (y.sum() + balancing_loss(report, 0.1, 0.1)).backward()
    assert y.shape == (0, 8)
    assert report.tokens_per_expert.tolist() == [0] * 6
    assert all(weight.grad is None or weight.grad.eq(0).all() for weight in layer.parameters())


def test_bfloat16_importance_counts_many_tokens_exactly() -> None:
    # Added up in bfloat16, 256 + 1 would stay 256.
    layer = MoE(NoisyTopKGate(8, 1, 1), FeedForwardExperts(1, 8, 4)).bfloat16()
    _, report = layer(torch.randn(1000, 8, dtype=torch.bfloat16))
    assert report.importance.item() == report.load.item() == 1000
