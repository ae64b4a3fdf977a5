"""Sorting a gate's choices by expert."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from outrageous.moe.routing import route


def test_route_by_hand() -> None:
    # token 0 goes to expert 2 with 3/4 and expert 0 with 1/4; token 1 to experts 0 and 1 with 1/2 each
    weight = torch.tensor([0.75, 0.25, 0.5, 0.5], requires_grad=True)
    load, threshold_loss = torch.zeros(4), torch.ones(())
    routing = route(torch.tensor([0, 0, 1, 1]), torch.tensor([2, 0, 0, 1]), weight, load, threshold_loss)

    assert routing.expert.tolist() == [0, 0, 1, 2]
    assert routing.token.tolist() == [0, 1, 1, 0]
    assert routing.weight.tolist() == [0.25, 0.5, 0.5, 0.75]
    assert routing.tokens_per_expert.tolist() == [2, 1, 1, 0]
    assert routing.importance.tolist() == [0.75, 0.5, 0.75, 0.0]
    assert routing.load is load
    assert routing.threshold_loss is threshold_loss
    assert routing.report().importance is routing.importance


def test_gradients_return_to_the_gate_value_they_came_from() -> None:
    weight = torch.tensor([0.75, 0.25, 0.5, 0.5], requires_grad=True)
    routing = route(torch.tensor([0, 0, 1, 1]), torch.tensor([2, 0, 0, 1]), weight, torch.zeros(3))

    (grad,) = torch.autograd.grad(routing.weight @ torch.tensor([1.0, 2.0, 3.0, 4.0]), weight, retain_graph=True)
    assert grad.tolist() == [4.0, 1.0, 2.0, 3.0]  # by assignment, in the order of the test above
    (grad,) = torch.autograd.grad(routing.importance @ torch.tensor([10.0, 20.0, 30.0]), weight)
    assert grad.tolist() == [30.0, 10.0, 10.0, 20.0]  # by expert


@given(st.data(), st.integers(0, 12), st.integers(1, 8))
def test_assignments_are_sorted_and_none_is_lost(data: st.DataObject, num_tokens: int, num_experts: int) -> None:
    mask = torch.tensor([[data.draw(st.booleans()) for _ in range(num_experts)] for _ in range(num_tokens)])
    token, expert = mask.reshape(num_tokens, num_experts).nonzero(as_tuple=True)  # any number of experts a token
    weight = torch.rand(len(token), dtype=torch.float64)
    routing = route(token, expert, weight, torch.zeros(num_experts))

    pairs = list(zip(routing.expert.tolist(), routing.token.tolist(), strict=True))
    assert pairs == sorted(zip(expert.tolist(), token.tolist(), strict=True))
    assert torch.bincount(expert, minlength=num_experts).equal(routing.tokens_per_expert)
    dense, expected = torch.zeros(2, num_tokens, num_experts, dtype=torch.float64)
    dense[routing.token, routing.expert] = routing.weight
    expected[token, expert] = weight
    assert_close(dense, expected, rtol=0, atol=0)
    assert_close(routing.importance, dense.sum(dim=0), rtol=1e-9, atol=1e-9)
    assert routing.threshold_loss.item() == 0
