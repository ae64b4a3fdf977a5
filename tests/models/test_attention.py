"""Attention against its equations, pair by pair."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from outrageous.models.attention import AdditiveAttention, Attention, MultiplicativeAttention

MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


def build(kind: type[Attention]) -> Attention:
    attention = kind(3).double()
    torch.nn.init.normal_(attention.v)
    return attention


def score(attention: Attention, x: Tensor, y: Tensor) -> float:
    """A(x_i, y_j) of one pair, one term after the other."""
    total = 0.0
    for d in range(3):
        of_source = sum(x[e].item() * attention.key.weight[d, e].item() for e in range(3))
        of_target = sum(y[e].item() * attention.query.weight[d, e].item() for e in range(3))
        if isinstance(attention, MultiplicativeAttention):
            total += attention.v[d].item() * math.tanh(of_source) * math.tanh(of_target)
        else:
            total += attention.v[d].item() * math.tanh(of_source + of_target)
    return total


@pytest.mark.parametrize("kind", [MultiplicativeAttention, AdditiveAttention])
def test_weights_and_context_equal_their_twin(kind: type[Attention]) -> None:
    attention = build(kind)
    encoded = torch.randn(2, 4, 3, dtype=torch.float64)
    queries = torch.randn(2, 5, 3, dtype=torch.float64)
    context, weights = attention(queries, attention.remember(encoded, MASK))
    assert (context.shape, weights.shape) == ((2, 5, 3), (2, 5, 4))
    for sentence, length in enumerate(MASK.sum(dim=1).tolist()):
        for query in range(5):
            powers = [math.exp(score(attention, x, queries[sentence, query])) for x in encoded[sentence, :length]]
            expected = torch.tensor([power / sum(powers) for power in powers], dtype=torch.float64)
            assert_close(weights[sentence, query, :length], expected, rtol=1e-9, atol=1e-9)
            assert weights[sentence, query, length:].eq(0).all()
            assert_close(context[sentence, query], expected @ encoded[sentence, :length], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [MultiplicativeAttention, AdditiveAttention])
def test_padding_gets_and_gives_no_gradient(kind: type[Attention]) -> None:
    attention = build(kind)
    encoded = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    context, _ = attention(torch.randn(2, 5, 3, dtype=torch.float64), attention.remember(encoded, MASK))
    (grad,) = torch.autograd.grad(context.square().sum(), encoded)
    assert grad[~MASK].eq(0).all()
    assert grad[MASK].ne(0).all()


def test_an_output_of_zero_asks_for_the_mean() -> None:
    """Multiplicative: tanh(0) makes every A(x_i, 0) zero."""
    attention = build(MultiplicativeAttention)
    encoded = torch.randn(2, 4, 3, dtype=torch.float64)
    context, _ = attention(torch.zeros(2, 1, 3, dtype=torch.float64), attention.remember(encoded, MASK))
    assert_close(context[0, 0], encoded[0].mean(dim=0))
    assert_close(context[1, 0], encoded[1, :2].mean(dim=0))


def test_a_memory_is_selected_by_sentence() -> None:
    attention = build(MultiplicativeAttention)
    memory = attention.remember(torch.randn(2, 4, 3, dtype=torch.float64), MASK)
    rows = torch.tensor([1, 0, 1])
    queries = torch.randn(3, 2, 3, dtype=torch.float64)
    context, weights = attention(queries, memory.select(rows))
    for index, row in enumerate(rows.tolist()):
        one = attention(queries[index : index + 1], memory.select(torch.tensor([row])))
        assert_close((context[index], weights[index]), (one[0][0], one[1][0]), rtol=1e-9, atol=1e-9)
