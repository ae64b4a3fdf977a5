"""The layer as a module among others: shapes, gates and experts of one's own, gradient accumulation, copies."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from outrageous.moe import FeedForwardExperts, MoE, MoEReport, NoisyTopKGate, Routing, SoftmaxGate
from outrageous.moe.routing import route


class IdentityExperts(nn.Module):
    def __init__(self, num_experts: int) -> None:
        super().__init__()
        self.num_experts = num_experts

    def forward(self, rows: Tensor, routing: Routing) -> tuple[Tensor, MoEReport]:
        assert routing.tokens_per_expert.sum() == rows.shape[0]
        return rows, routing.report()


class FixedGate(nn.Module):
    """Sends token 0 to experts 0, 1 and 2, token 1 to none and token 2 to expert 1."""

    num_experts = 3

    def forward(self, x: Tensor) -> Routing:
        return route(
            token=torch.tensor([0, 0, 0, 2]),
            expert=torch.tensor([0, 1, 2, 1]),
            weight=torch.tensor([0.5, 1.0, 0.5, 3.0]),
            load=torch.zeros(3),
        )


@pytest.fixture
def layer() -> MoE:
    gate = NoisyTopKGate(d_model=6, num_experts=5, k=2)
    nn.init.normal_(gate.w_gate)
    nn.init.normal_(gate.w_noise)
    return MoE(gate, FeedForwardExperts(5, 6, 8)).eval()


@pytest.mark.parametrize("k", [1, 3, 8])
def test_no_token_is_dropped_however_uneven_the_load(k: int) -> None:
    gate = NoisyTopKGate(d_model=4, num_experts=8, k=k).double()
    with torch.no_grad():
        gate.w_gate[:, :k] = 100  # every positive token prefers the same k experts
    x = torch.rand(300, 4, dtype=torch.float64)
    y, report = MoE(gate, IdentityExperts(8))(x)
    assert report.tokens_per_expert.tolist() == [300] * k + [0] * (8 - k)
    assert_close(y, x, rtol=1e-9, atol=1e-9)  # weights sum to one


def test_a_gate_may_give_any_number_of_experts_to_a_token() -> None:
    y, _ = MoE(FixedGate(), IdentityExperts(3))(torch.ones(3, 2))
    assert y.tolist() == [[2.0, 2.0], [0.0, 0.0], [3.0, 3.0]]


@pytest.mark.parametrize("shape", [(6,), (1, 6), (7, 6), (2, 3, 6), (2, 1, 3, 6)])
def test_leading_axes_are_tokens(layer: MoE, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    y, report = layer(x)
    flat_y, flat_report = layer(x.reshape(-1, 6))
    assert y.shape == x.shape
    assert torch.equal(y.reshape(-1, 6), flat_y)
    assert torch.equal(report.load, flat_report.load)


def test_x_need_not_be_contiguous(layer: MoE) -> None:
    x = torch.randn(6, 4, 3, requires_grad=True)
    y, _ = layer(x.permute(2, 1, 0))
    expected, _ = layer(x.permute(2, 1, 0).contiguous())
    assert torch.equal(y, expected)
    (grad,) = torch.autograd.grad(y.square().sum(), x)
    (expected_grad,) = torch.autograd.grad(expected.square().sum(), x)
    assert torch.equal(grad, expected_grad)


def test_gradients_accumulate(layer: MoE) -> None:
    layer.double()
    x = torch.randn(10, 6, dtype=torch.float64)
    layer(x)[0].square().sum().backward()
    whole = [weight.grad for weight in layer.parameters()]
    layer.zero_grad()  # sets them to None: `whole` keeps its tensors
    for part in x.split([3, 7]):
        layer(part)[0].square().sum().backward()
    parts = [weight.grad for weight in layer.parameters()]
    assert_close(parts, whole, rtol=1e-9, atol=1e-9)
    by_w_noise = layer.gate.get_parameter("w_noise").grad
    assert by_w_noise is not None
    assert by_w_noise.eq(0).all()  # it has no part in y without noise
    assert sum(bool(grad.ne(0).any()) for grad in whole if grad is not None) == 3


def test_a_deep_copy_is_equal_and_independent(layer: MoE) -> None:
    x = torch.randn(10, 6)
    before, _ = layer(x)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x)[0], before)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.add_(1)
    assert torch.equal(layer(x)[0], before)
    assert not torch.equal(twin(x)[0], before)


def test_state_dict_holds_everything(layer: MoE) -> None:
    assert set(layer.state_dict()) == {"gate.w_gate", "gate.w_noise", "experts.weights.0", "experts.weights.1"}
    other = MoE(NoisyTopKGate(6, 5, 2), FeedForwardExperts(5, 6, 8)).eval()
    x = torch.randn(10, 6)
    assert not torch.equal(other(x)[0], layer(x)[0])
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x)[0], layer(x)[0])


def test_training_the_gate_through_the_output_alone() -> None:
    """With k > 1 the gate learns from y which of its experts is better."""
    layer = MoE(NoisyTopKGate(4, 2, 2), FeedForwardExperts(2, 4, 8))
    x = torch.rand(64, 4)
    hidden, out = layer.experts.weights  # type: ignore[misc] # a ParameterList
    target = ((x @ hidden[0].t()).relu() @ out[0].t()).detach()  # what expert 0 says
    gate_only = torch.optim.Adam(layer.gate.parameters(), lr=0.1)
    for _ in range(50):
        y, report = layer(x)
        gate_only.zero_grad()
        (y - target).square().mean().backward()
        gate_only.step()
    assert report.importance[0] > 0.9 * 64


def test_gate_and_experts_must_agree_on_their_number() -> None:
    with pytest.raises(ValueError, match=r"among 4 experts, but there are 5"):
        MoE(SoftmaxGate(6, 4), FeedForwardExperts(5, 6, 8))
