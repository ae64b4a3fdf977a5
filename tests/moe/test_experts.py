"""The bank of feed-forward experts against one expert and one row at a time."""

import copy
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from outrageous.moe import FeedForwardExperts, Routing
from outrageous.moe.factors import collect_factors
from outrageous.moe.feed_forward import feed_forward
from outrageous.moe.routing import route


def routing_of(counts: list[int]) -> Routing:
    """counts [N] rows for each expert, the rows sorted already, each of a token of its own."""
    expert = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return route(torch.arange(len(expert)), expert, torch.ones(len(expert)), torch.zeros(len(counts)))


def twin(experts: FeedForwardExperts, rows: Tensor, counts: list[int]) -> Tensor:
    """Row by row: h = ReLU(W h) for each hidden layer, and a last W without ReLU."""
    owners = [expert for expert, count in enumerate(counts) for _ in range(count)]
    out = []
    for row, owner in zip(rows, owners, strict=True):
        *hidden, last = [matrices[owner] for matrices in experts.weights]
        for matrix in hidden:
            row = (matrix @ row).clamp_min(0)
        out.append(last @ row)
    return torch.stack(out) if out else rows


@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    d_model=st.integers(1, 5),
    d_hidden=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    recompute=st.booleans(),
    keep_memory=st.booleans(),
    rows_per_block=st.integers(1, 8),
)
def test_bank_equals_its_twin(
    counts: list[int], d_model: int, d_hidden: list[int], recompute: bool, keep_memory: bool, rows_per_block: int
) -> None:
    torch.manual_seed(0)
    experts = FeedForwardExperts(len(counts), d_model, d_hidden, recompute, keep_memory).double()
    rows = torch.randn(sum(counts), d_model, dtype=torch.float64, requires_grad=True)
    inputs = [rows, *experts.weights]
    expected = twin(experts, rows, counts)
    direction = torch.randn_like(expected)
    expected_grads = torch.autograd.grad(expected, inputs, direction, allow_unused=True, materialize_grads=True)
    with patch("outrageous.moe.feed_forward.ROWS_PER_BLOCK", rows_per_block):
        for _ in range(2):  # kept memory is used again
            out, report = experts(rows, routing_of(counts))
            grads = torch.autograd.grad(out, inputs, direction)
            assert report.tokens_per_expert.tolist() == counts
            assert_close(out, expected, rtol=1e-9, atol=1e-9)
            assert_close(grads, expected_grads, rtol=1e-9, atol=1e-9)
            del out, grads


@pytest.mark.parametrize("recompute", [False, True])
def test_gradcheck(recompute: bool) -> None:
    experts = FeedForwardExperts(3, 3, [4, 2], recompute).double()
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)

    def bank(rows: Tensor, *matrices: Tensor) -> Tensor:
        return feed_forward(rows, matrices, [2, 0, 3], recompute)

    assert torch.autograd.gradcheck(bank, (rows, *experts.weights))


def test_recomputation_gives_the_same_numbers_and_stores_no_activations() -> None:
    rows, routing = torch.randn(40, 8, requires_grad=True), routing_of([25, 15])
    results, stored = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        experts = FeedForwardExperts(2, 8, [32, 16], recompute)
        saved: set[tuple[int, ...]] = set()

        def note(tensor: Tensor, saved: set[tuple[int, ...]] = saved) -> Tensor:
            saved.add(tuple(tensor.shape))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            out, _ = experts(rows, routing)
        results.append((out, *torch.autograd.grad(out.square().sum(), [rows, *experts.weights])))
        stored.append(saved)
    assert all(map(torch.equal, *results))
    assert {(40, 32), (40, 16)} <= stored[0]
    assert not {(40, 32), (40, 16)} & stored[1]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("collecting", [[0, 1, 2], [0], [1], [2]])
def test_factors_stand_for_the_gradients_that_are_then_not_formed(recompute: bool, collecting: list[int]) -> None:
    experts = FeedForwardExperts(4, 5, [6, 7], recompute).double()
    rows = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    inputs = [rows, *experts.weights]

    def backward() -> None:
        out, _ = experts(rows, routing_of([3, 0, 4, 2]))
        out.backward(torch.linspace(-1, 1, 45, dtype=torch.float64).view(9, 5))

    expected = []
    backward()
    for tensor in inputs:
        expected.append(tensor.grad)
        tensor.grad = None
    lists = {layer: collect_factors(experts.weights[layer]) for layer in collecting}
    with patch("outrageous.moe.feed_forward.ROWS_PER_BLOCK", 1):
        backward()
    for layer, matrices in enumerate(experts.weights):
        if layer in collecting:
            assert matrices.grad is None
            (factors,) = lists[layer]
            assert factors.rows_per_expert == [3, 0, 4, 2]
            pairs = zip(*(rows.split([3, 0, 4, 2]) for rows in (factors.grad_out, factors.inputs)), strict=True)
            gradient = torch.stack([grad_out.t() @ inputs for grad_out, inputs in pairs])
            assert_close(gradient, expected[1 + layer], rtol=1e-9, atol=1e-9)
        else:
            assert_close(matrices.grad, expected[1 + layer], rtol=1e-9, atol=1e-9)
    assert_close(rows.grad, expected[0], rtol=1e-9, atol=1e-9)


def test_one_expert_by_hand() -> None:
    # x = (1, 2); hidden (1·1 + 1·2, 1·1 - 1·2) = (3, -1) -> ReLU (3, 0); output (2·3 + 5·0, -1·3 + 5·0) = (6, -3)
    experts = FeedForwardExperts(num_experts=1, d_model=2, d_hidden=2)
    with torch.no_grad():
        experts.weights[0][0] = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
        experts.weights[1][0] = torch.tensor([[2.0, 5.0], [-1.0, 5.0]])
    out, _ = experts(torch.tensor([[1.0, 2.0]]), routing_of([1]))
    assert out.tolist() == [[6.0, -3.0]]


def test_an_expert_without_rows_gets_a_gradient_of_zero() -> None:
    experts = FeedForwardExperts(num_experts=3, d_model=4, d_hidden=5)
    experts(torch.randn(6, 4), routing_of([4, 0, 2]))[0].square().sum().backward()
    for weight in experts.weights:
        assert weight.grad is not None
        assert weight.grad[1].eq(0).all()
        assert weight.grad[0].ne(0).any()
        assert weight.grad[2].ne(0).any()


def test_experts_without_rows_cost_no_products() -> None:
    experts = FeedForwardExperts(num_experts=1000, d_model=4, d_hidden=5)
    counts = [0] * 1000
    counts[3] = counts[998] = 2
    with patch("torch.mm", wraps=torch.mm) as product:
        experts(torch.randn(4, 4, requires_grad=True), routing_of(counts))[0].sum().backward()
    assert product.call_count == 2 * 6  # forward, and backward by rows and by weights, of two layers
    for weight in experts.weights:
        assert weight.grad is not None
        assert weight.grad.flatten(1).ne(0).any(dim=1).nonzero().flatten().tolist() == [3, 998]


def test_rows_and_gradients_need_not_be_contiguous() -> None:
    experts = FeedForwardExperts(num_experts=2, d_model=4, d_hidden=3)
    columns = torch.randn(4, 5, requires_grad=True)
    out, _ = experts(columns.t(), routing_of([2, 3]))
    out.sum().backward()  # a gradient of stride 0
    expected, _ = experts(columns.t().contiguous(), routing_of([2, 3]))
    assert_close(out, expected)
    (expected_grad,) = torch.autograd.grad(expected, columns, torch.ones_like(expected))
    assert_close(columns.grad, expected_grad)


def test_initial_weights_keep_the_size_of_activations() -> None:
    """He et al.: uniform of variance 2/width_in before a ReLU, which halves it, and 1/width_in in the last layer."""
    experts = FeedForwardExperts(num_experts=2, d_model=16, d_hidden=[64, 32])
    assert [tuple(weight.shape) for weight in experts.weights] == [(2, 64, 16), (2, 32, 64), (2, 16, 32)]
    for weight, gain in zip(experts.weights, [2, 2, 1], strict=True):
        bound = (3 * gain / weight.shape[2]) ** 0.5
        assert weight.abs().max() <= bound
        # U(-b, b) has the standard deviation b/√3; of 1,024 values or more it is met within some percent
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert not torch.equal(weight[0], weight[1])


def test_one_hidden_layer_is_short_for_a_list_of_one() -> None:
    assert FeedForwardExperts(2, 3, 4).d_hidden == FeedForwardExperts(2, 3, [4]).d_hidden == (4,)


@pytest.mark.parametrize(("num_experts", "d_model", "d_hidden"), [(0, 4, 4), (2, 0, 4), (2, 4, 0), (2, 4, [4, 0])])
def test_sizes_must_be_positive(num_experts: int, d_model: int, d_hidden: int | list[int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FeedForwardExperts(num_experts, d_model, d_hidden)


def test_an_expert_has_a_hidden_layer() -> None:
    with pytest.raises(ValueError, match=r"d_hidden=\[\]"):
        FeedForwardExperts(2, 4, [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_is_close_to_double(dtype: torch.dtype) -> None:
    experts = FeedForwardExperts(num_experts=3, d_model=8, d_hidden=[16, 8]).double()
    rows = torch.randn(20, 8, dtype=torch.float64)

    def out_and_gradients(dtype: torch.dtype) -> list[Tensor]:
        bank = copy.deepcopy(experts).to(dtype)
        x = rows.to(dtype).requires_grad_()
        out, _ = bank(x, routing_of([9, 0, 11]))
        return [tensor.double() for tensor in (out, *torch.autograd.grad(out.sum(), [x, *bank.weights]))]

    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    for value, expected in zip(out_and_gradients(dtype), out_and_gradients(torch.float64), strict=True):
        assert (value - expected).norm() <= tolerance * expected.norm()


def test_the_same_numbers_every_time() -> None:
    experts = FeedForwardExperts(num_experts=4, d_model=16, d_hidden=32)
    rows, routing = torch.randn(200, 16, requires_grad=True), routing_of([70, 60, 0, 70])
    runs = [torch.autograd.grad(experts(rows, routing)[0].exp().sum(), [rows, *experts.weights]) for _ in range(2)]
    assert all(map(torch.equal, *runs))


def test_a_second_derivative_is_refused() -> None:
    experts = FeedForwardExperts(num_experts=1, d_model=2, d_hidden=2)
    out, _ = experts(torch.ones(1, 2, requires_grad=True), routing_of([1]))
    (grad,) = torch.autograd.grad(out.square().sum(), experts.weights[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("keep_memory", [False, True])
def test_autocast_computes_in_its_dtype_and_keeps_gradients_in_the_weights(keep_memory: bool) -> None:
    experts = FeedForwardExperts(num_experts=2, d_model=8, d_hidden=8, keep_memory=keep_memory)
    rows, routing = torch.randn(6, 8, requires_grad=True), routing_of([2, 4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, _ = experts(rows, routing)
    out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16
    assert_close(out.float(), experts(rows, routing)[0], rtol=0.05, atol=0.05)
    assert rows.grad is not None
    assert rows.grad.dtype == torch.float32
    assert {weight.grad.dtype for weight in experts.weights if weight.grad is not None} == {torch.float32}
