"""Gathering tokens' rows and adding them up again: each the other's gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from outrageous.moe.routing import combine, gather


def twin(rows: Tensor, token: Tensor, num_tokens: int) -> Tensor:
    return rows.new_zeros(num_tokens, rows.shape[1]).index_add(0, token, rows)


@given(st.integers(0, 6), st.lists(st.integers(0, 100), max_size=12), st.integers(1, 5), st.booleans())
def test_gather_and_combine_equal_their_twins(num_tokens: int, drawn: list[int], width: int, strided: bool) -> None:
    """Any number of rows for each token, in any order; rows and gradients of any strides."""
    torch.manual_seed(0)
    token = torch.tensor([number % num_tokens for number in drawn] if num_tokens else [], dtype=torch.int64)

    def drawn_rows(num_rows: int) -> Tensor:
        rows = torch.randn(width, num_rows, dtype=torch.float64).t()
        return (rows if strided else rows.contiguous()).requires_grad_()

    rows, tokens = drawn_rows(len(token)), drawn_rows(num_tokens)
    for value, expected, source in (
        (combine(rows, token, num_tokens), twin(rows, token, num_tokens), rows),
        (gather(tokens, token), tokens.index_select(0, token), tokens),
    ):
        assert_close(value, expected, rtol=1e-12, atol=1e-12)
        direction = drawn_rows(len(value)).detach()
        assert_close(
            torch.autograd.grad(value, source, direction),
            torch.autograd.grad(expected, source, direction),
            rtol=1e-12,
            atol=1e-12,
        )


@pytest.mark.parametrize("token", [[2, 0, 2, 1], [3, 3, 3, 3], []])
def test_both_can_be_differentiated_twice(token: list[int]) -> None:
    index = torch.tensor(token, dtype=torch.int64)
    rows = torch.randn(len(token), 3, dtype=torch.float64, requires_grad=True)
    tokens = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: gather(x, index).square(), tokens)
    if token:
        assert torch.autograd.gradgradcheck(lambda x: combine(x, index, 4).square(), rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_token_without_rows_gets_zeros_and_an_expanded_gradient_is_fine(dtype: torch.dtype) -> None:
    rows = torch.ones(3, 2, dtype=dtype, requires_grad=True)
    y = combine(rows, torch.tensor([2, 0, 2]), 4)
    y.sum().backward()  # a gradient of stride 0
    assert y.dtype == dtype
    assert y.tolist() == [[1, 1], [0, 0], [2, 2], [0, 0]]
    assert rows.grad is not None
    assert rows.grad.eq(1).all()
