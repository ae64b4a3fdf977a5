"""The step without a gradient equals the step with one, and refuses what needs a gradient."""

import copy
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from outrageous.moe import FeedForwardExperts, MoE, NoisyTopKGate
from outrageous.moe.factors import GradientFactors, factors_of
from outrageous.optim.factored_adam import FactoredAdam
from outrageous.optim.gradient_free import GradientFreeFactoredAdam


def hand_over(weight: Tensor, factors: GradientFactors) -> None:
    """What a backward pass does."""
    collected = factors_of(weight)
    assert collected is not None
    collected.append(factors)


def random_factors(counts: list[int], out: int, in_: int, dtype: torch.dtype = torch.float64) -> GradientFactors:
    num_rows = sum(counts)
    return GradientFactors(torch.randn(num_rows, out, dtype=dtype), torch.randn(num_rows, in_, dtype=dtype), counts)


def gradient_of(factors: GradientFactors) -> Tensor:
    """[N, out, in], formed after all."""
    pairs = zip(*(rows.split(factors.rows_per_expert) for rows in (factors.grad_out, factors.inputs)), strict=True)
    return torch.stack([grad_out.t() @ inputs for grad_out, inputs in pairs])


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    out=st.integers(1, 30),
    in_=st.integers(1, 30),
    num_steps=st.integers(1, 3),
)
def test_it_equals_the_step_with_the_gradient(counts: list[int], out: int, in_: int, num_steps: int) -> None:
    """Both sides of the choice between Gram matrices and one expert's gradient: 64·30·30 = 2·21.9²·(30 + 30)."""
    torch.manual_seed(0)
    formed = nn.Parameter(torch.randn(len(counts), out, in_, dtype=torch.float64))
    free = nn.Parameter(formed.detach().clone())
    with_gradient = FactoredAdam([formed], lr=0.1, beta2=0.9)
    without = GradientFreeFactoredAdam([free], lr=0.1, beta2=0.9)
    for _ in range(num_steps):
        factors = random_factors(counts, out, in_)
        formed.grad = gradient_of(factors)
        hand_over(free, factors)
        with_gradient.step()
        without.step()
    torch.testing.assert_close(free, formed)
    assert without.state[free].keys() == with_gradient.state[formed].keys()
    for name, tensor in without.state[free].items():
        torch.testing.assert_close(tensor, with_gradient.state[formed][name])
    assert free.grad is None


def test_experts_without_rows_cost_no_products() -> None:
    weight = nn.Parameter(torch.zeros(1000, 8, 8))
    optimizer = GradientFreeFactoredAdam([weight])
    counts = [0] * 1000
    counts[3] = counts[998] = 2
    hand_over(weight, random_factors(counts, 8, 8, torch.float32))
    with patch("torch.mm", wraps=torch.mm) as product:
        optimizer.step()
    assert product.call_count == 2 * 4  # two for the rows of G² and two for its columns
    assert weight.detach().flatten(1).ne(0).any(dim=1).nonzero().flatten().tolist() == [3, 998]


def layer(recompute: bool) -> tuple[MoE, FeedForwardExperts]:
    torch.manual_seed(0)
    experts = FeedForwardExperts(5, 12, [20, 16], recompute)
    return MoE(NoisyTopKGate(d_model=12, num_experts=5, k=2), experts).double(), experts


def train(moe: MoE, expert_optimizer: Any, num_steps: int = 4) -> Tensor:
    """Some steps on random tokens; the last output. The gate stays as it is, so that both see the same routing."""
    torch.manual_seed(1)
    for _ in range(num_steps):
        x = torch.randn(9, 12, dtype=torch.float64)
        y, _ = moe(x)
        expert_optimizer.zero_grad()
        y.square().sum().backward()
        expert_optimizer.step()
    return y.detach()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_layer_trained_without_gradients_learns_what_it_learns_with_them(recompute: bool) -> None:
    (formed, formed_experts), (free, free_experts) = layer(recompute), layer(recompute)
    before = formed_experts.weights[0].detach().clone()
    expected = train(formed, FactoredAdam(formed_experts.parameters(), lr=0.01))
    actual = train(free, GradientFreeFactoredAdam(free_experts.parameters(), lr=0.01))
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(free.state_dict(), formed.state_dict())
    assert all(weight.grad is None for weight in free_experts.parameters())
    assert not torch.equal(formed_experts.weights[0], before)


def test_single_precision_is_near_double_precision() -> None:
    factors = random_factors([40, 40], 64, 32)
    exact = nn.Parameter(torch.zeros(2, 64, 32, dtype=torch.float64))
    exact.grad = gradient_of(factors)
    FactoredAdam([exact]).step()
    single = nn.Parameter(torch.zeros(2, 64, 32))
    optimizer = GradientFreeFactoredAdam([single])
    hand_over(single, GradientFactors(factors.grad_out.float(), factors.inputs.float(), [40, 40]))
    optimizer.step()
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-7)


def test_factors_of_lower_precision_move_weights_of_full_precision() -> None:
    weight = nn.Parameter(torch.zeros(1, 4, 4))
    optimizer = GradientFreeFactoredAdam([weight], lr=0.1)
    hand_over(weight, GradientFactors(torch.ones(3, 4).bfloat16(), torch.ones(3, 4).bfloat16(), [3]))
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((1, 4, 4), -0.1))


def test_its_state_is_that_of_the_factored_adam() -> None:
    """So a run may change over from one to the other, and go on."""
    (formed, formed_experts), (free, free_experts) = layer(False), layer(False)
    with_gradient = FactoredAdam(formed_experts.parameters(), lr=0.01)
    train(formed, with_gradient)
    free.load_state_dict(formed.state_dict())
    without = GradientFreeFactoredAdam(free_experts.parameters())
    without.load_state_dict(copy.deepcopy(with_gradient.state_dict()))
    train(formed, with_gradient)
    train(free, without)
    torch.testing.assert_close(free.state_dict(), formed.state_dict())


def test_a_second_backward_pass_before_the_step_is_refused_and_nothing_is_updated() -> None:
    moe, experts = layer(False)
    before = [weight.detach().clone() for weight in experts.parameters()]
    optimizer = GradientFreeFactoredAdam(experts.parameters())
    for _ in range(2):
        moe(torch.randn(4, 12, dtype=torch.float64))[0].sum().backward()
    with pytest.raises(ValueError, match="2 backward passes since the last step"):
        optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(experts.parameters(), before, strict=True))


def test_zero_grad_drops_the_factors() -> None:
    moe, experts = layer(False)
    optimizer = GradientFreeFactoredAdam(experts.parameters())
    moe(torch.randn(4, 12, dtype=torch.float64))[0].sum().backward()
    optimizer.zero_grad()
    before = experts.weights[0].detach().clone()
    optimizer.step()
    assert torch.equal(experts.weights[0], before)
    assert not optimizer.state


def test_a_parameter_with_a_gradient_is_refused() -> None:
    linear = nn.Linear(3, 3)
    optimizer = GradientFreeFactoredAdam([linear.weight])
    linear(torch.ones(2, 3)).sum().backward()
    with pytest.raises(ValueError, match=r"a weight of shape \(3, 3\) has a gradient"):
        optimizer.step()
