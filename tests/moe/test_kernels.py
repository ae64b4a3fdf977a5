"""Gathering tokens' rows and adding them up again, weighted."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from outrageous.moe.memory import KeptMemory
from outrageous.moe.routing import combine, gather


def twin(rows: Tensor, token: Tensor, weight: Tensor, num_tokens: int) -> Tensor:
    """As a product with a matrix [T, S] of weights."""
    matrix = torch.zeros(num_tokens, len(rows), dtype=rows.dtype)
    return matrix.index_put((token, torch.arange(len(rows))), weight) @ rows


@given(
    num_tokens=st.integers(0, 6),
    drawn=st.lists(st.integers(0, 100), max_size=12),
    width=st.integers(1, 5),
    strided=st.booleans(),
    keep_memory=st.booleans(),
    rows_per_block=st.integers(1, 5),
)
def test_gather_and_combine_equal_their_twins(
    num_tokens: int, drawn: list[int], width: int, strided: bool, keep_memory: bool, rows_per_block: int
) -> None:
    """Any number of rows for each token, in any order, any weights; rows and gradients of any strides."""
    torch.manual_seed(0)
    memory = KeptMemory() if keep_memory else None
    token = torch.tensor([number % num_tokens for number in drawn] if num_tokens else [], dtype=torch.int64)

    def drawn_rows(num_rows: int) -> Tensor:
        rows = torch.randn(width, num_rows, dtype=torch.float64).t()
        return (rows if strided else rows.contiguous()).requires_grad_()

    rows, tokens = drawn_rows(len(token)), drawn_rows(num_tokens)
    weight = torch.randn(len(token), dtype=torch.float64, requires_grad=True)
    for value, expected, sources in (
        (combine(rows, token, weight, num_tokens, memory), twin(rows, token, weight, num_tokens), [rows, weight]),
        (gather(tokens, token, memory), tokens.index_select(0, token), [tokens]),
    ):
        assert_close(value, expected, rtol=1e-9, atol=1e-9)
        direction = drawn_rows(len(value)).detach()
        with patch("outrageous.moe.routing.ROWS_PER_BLOCK", rows_per_block):
            grads = torch.autograd.grad(value, sources, direction)
        assert_close(grads, torch.autograd.grad(expected, sources, direction), rtol=1e-9, atol=1e-9)


def test_gradcheck() -> None:
    token = torch.tensor([2, 0, 2, 1])
    weight = torch.tensor([0.0, 0.5, -2.0, 1e-300], dtype=torch.float64, requires_grad=True)  # may be anything
    rows = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: combine(x, token, w, 4), (rows, weight))
    assert torch.autograd.gradcheck(lambda x: gather(x, token), rows)


def test_combine_by_hand() -> None:
    # token 0: 2 · (10, 20); token 2: 1/2 · (1, 2) + 3 · (100, 200)
    rows = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    y = combine(rows, torch.tensor([2, 0, 2]), torch.tensor([0.5, 2.0, 3.0]), 4)
    assert y.tolist() == [[20.0, 40.0], [0.0, 0.0], [300.5, 601.0], [0.0, 0.0]]


def test_a_second_derivative_is_refused() -> None:
    tokens, token = torch.randn(2, 3, requires_grad=True), torch.arange(2)
    for y in (gather(tokens, token), combine(tokens, token, torch.ones(2), 2)):
        (grad,) = torch.autograd.grad(y.square().sum(), tokens, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_token_without_rows_gets_zeros_and_an_expanded_gradient_is_fine(dtype: torch.dtype) -> None:
    rows = torch.ones(3, 2, dtype=dtype, requires_grad=True)
    y = combine(rows, torch.tensor([2, 0, 2]), torch.ones(3), 4)
    y.sum().backward()  # a gradient of stride 0
    assert y.dtype == dtype
    assert y.tolist() == [[1, 1], [0, 0], [2, 2], [0, 0]]
    assert rows.grad is not None
    assert rows.grad.eq(1).all()
