"""Sorting a gate's choices by expert."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from outrageous.moe.routing import route


def test_route_by_hand() -> None:
    # token 0 goes to expert 2 with 3/4 and expert 0 with 1/4; token 1 to experts 0 and 1 with 1/2 each
    weight = torch.tensor([[0.75, 0.25], [0.5, 0.5]], requires_grad=True)
    load = torch.zeros(4)
    routing = route(torch.tensor([[2, 0], [0, 1]]), weight, load)

    assert routing.expert.tolist() == [0, 0, 1, 2]
    assert routing.token.tolist() == [0, 1, 1, 0]
    assert routing.weight.tolist() == [0.25, 0.5, 0.5, 0.75]
    assert routing.tokens_per_expert.tolist() == [2, 1, 1, 0]
    assert routing.importance.tolist() == [0.75, 0.5, 0.75, 0.0]
    assert routing.load is load


def test_gradients_return_to_the_gate_value_they_came_from() -> None:
    weight = torch.tensor([[0.75, 0.25], [0.5, 0.5]], requires_grad=True)
    routing = route(torch.tensor([[2, 0], [0, 1]]), weight, torch.zeros(3))

    (grad,) = torch.autograd.grad(routing.weight @ torch.tensor([1.0, 2.0, 3.0, 4.0]), weight, retain_graph=True)
    assert grad.tolist() == [[4.0, 1.0], [2.0, 3.0]]  # by assignment, in the order of the test above
    (grad,) = torch.autograd.grad(routing.importance @ torch.tensor([10.0, 20.0, 30.0]), weight)
    assert grad.tolist() == [[30.0, 10.0], [10.0, 20.0]]  # by expert


@given(st.data(), st.integers(0, 12), st.integers(1, 8))
def test_assignments_are_sorted_and_none_is_lost(data: st.DataObject, num_tokens: int, num_experts: int) -> None:
    k = data.draw(st.integers(1, num_experts))
    permutation = st.permutations(range(num_experts))
    expert = torch.tensor([data.draw(permutation)[:k] for _ in range(num_tokens)], dtype=torch.int64).reshape(-1, k)
    weight = torch.rand(num_tokens, k, dtype=torch.float64)
    routing = route(expert, weight, torch.zeros(num_experts))

    pairs = list(zip(routing.expert.tolist(), routing.token.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert routing.tokens_per_expert.sum() == num_tokens * k
    assert routing.expert.tolist() == torch.arange(num_experts).repeat_interleave(routing.tokens_per_expert).tolist()
    dense = torch.zeros(num_tokens, num_experts, dtype=torch.float64)
    dense[routing.token, routing.expert] = routing.weight
    assert_close(dense, torch.zeros_like(dense).scatter(1, expert, weight), rtol=0, atol=0)
    assert_close(routing.importance, dense.sum(dim=0), rtol=1e-9, atol=1e-9)
