"""Sums of gradients over processes, by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from outrageous.models.sampled_softmax import VocabularySoftmax
from outrageous.parallel import gradients as gradients_module
from outrageous.parallel.gradients import buckets, sum_in_place
from outrageous.parallel.processes import Processes
from outrageous.parallel.spread import sum_gradients

Together = Callable[[Callable[[Processes], Any], int], list[Any]]
TINY = 1e-30  # its square is zero in float32


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of elements of all sums from now on."""
    sizes: list[int] = []
    all_reduce = dist.all_reduce

    def counted(tensor: Tensor, *arguments: Any) -> None:
        sizes.append(tensor.numel())
        all_reduce(tensor, *arguments)

    monkeypatch.setattr(dist, "all_reduce", counted)
    return sizes


def test_large_ones_are_summed_where_they_lie_small_ones_together_and_of_tables_used_rows_alone(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients_module, "ELEMENTS_PER_BUCKET", 8)
    sizes = counting(monkeypatch)

    def one(processes: Processes) -> tuple[list[Tensor], list[int]]:
        rank = processes.rank
        small, large, turned = torch.full((3,), 1.0 + rank), torch.full((2, 5), 1.0), torch.ones(2, 4).t()
        table, busy = torch.zeros(7, 2), torch.zeros(3, 2)
        table[2 * rank] = TINY + rank  # rows 0, 2 and 4, of which 0 is small
        busy[rank] = 1 + rank
        sum_in_place([small, large, turned], [table, busy], processes)
        return [small, large, turned, table, busy], sizes

    expected_table = torch.zeros(7, 2)
    expected_table[[0, 2, 4]] = torch.tensor([[TINY], [1.0], [2.0]]).expand(3, 2)
    for result, sizes_there in together(one, 3):
        small, large, turned, table, busy = result
        torch.testing.assert_close(small, torch.full((3,), 6.0))
        torch.testing.assert_close(large, torch.full((2, 5), 3.0))
        torch.testing.assert_close(turned, torch.full((4, 2), 3.0))
        torch.testing.assert_close(table, expected_table, rtol=0, atol=0)
        torch.testing.assert_close(busy, torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
        # Marks of 7 and 3 rows; the small one; 10; 8; three rows of the table; all of the busy one.
        assert sizes_there == [10, 3, 10, 8, 6, 6]


def test_small_gradients_of_one_dtype_share_a_call_until_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients_module, "ELEMENTS_PER_BUCKET", 5)
    sizes = [torch.zeros(size) for size in ((3,), (2, 3), (2,), (1,))] + [torch.zeros(1, dtype=torch.float64)]
    assert [[each.numel() for each in bucket] for bucket in buckets(sizes)] == [[3, 2], [6], [1], [1]]


def test_a_parameter_without_a_gradient_counts_as_zeros_and_frozen_ones_are_left_out(together: Together) -> None:
    def one(processes: Processes) -> list[Tensor | None]:
        model = nn.ModuleDict({"embedding": nn.Embedding(9, 2), "softmax": VocabularySoftmax(9, 2, 3)})
        model["embedding"].weight.requires_grad_(False)
        if processes.rank == 1:
            model["softmax"].weight.grad = torch.zeros(9, 2).index_fill_(0, torch.tensor([8]), 4.0)
        assert sum_gradients(model, processes) == 0  # there are no experts
        return [parameter.grad for parameter in model.parameters()]

    for embedding, weight, bias in together(one, 2):
        assert embedding is None
        torch.testing.assert_close(weight, torch.zeros(9, 2).index_fill_(0, torch.tensor([8]), 4.0))
        torch.testing.assert_close(bias, torch.zeros(9))
