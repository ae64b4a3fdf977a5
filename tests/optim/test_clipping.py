"""Norm and scaling of dense and sparse gradients together equal those of the dense ones."""

import pytest
import torch
from torch import nn

from outrageous.optim.clipping import gradients_of, scale_to_norm


@pytest.mark.parametrize("max_norm", [1.0, 100.0])
def test_sparse_gradients_count_and_scale_as_dense_ones(max_norm: float) -> None:
    words = torch.tensor([3, 1, 3])  # twice the same row, whose gradients add up
    scaled = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table, dense = nn.Embedding(5, 4, sparse=sparse), nn.Linear(4, 2)
        dense(table(words)).square().sum().backward()
        parameters = [*table.parameters(), *dense.parameters()]
        gradients = gradients_of(parameters)
        norm = torch.nn.utils.get_total_norm(gradients)
        scale_to_norm(gradients, max_norm, norm)
        assert table.weight.grad is not None
        assert table.weight.grad.is_sparse is sparse
        scaled.append([norm, *(p.grad.to_dense() for p in parameters if p.grad is not None)])
    torch.testing.assert_close(scaled[1], scaled[0])
    expected = torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in scaled[1][1:]]))
    assert expected.item() == pytest.approx(min(scaled[1][0].item(), max_norm), rel=1e-5)
    assert 1 < scaled[0][0] < 100


def test_parameters_without_a_gradient_are_left_out() -> None:
    assert gradients_of([nn.Parameter(torch.zeros(2))]) == []
