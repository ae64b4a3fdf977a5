"""The benchmark of experts' products runs what it counts, in every precision, and survives a size that does not run."""

import pytest
import torch
from torch import Tensor

from outrageous.moe import FeedForwardExperts, MoEReport, Routing
from outrageous.moe.device import as_on_gpu
from outrageous.training import products_benchmark
from outrageous.training.products_benchmark import ON_CPU, ON_GPU, BankSize, Precision, measure_products

SMALL = BankSize(num_experts=3, rows_per_expert=8, d_model=8, d_hidden=16)


def test_operations_by_hand() -> None:
    # 24 rows through 8 × 16 and 16 × 8: 6,144 multiply-adds forward, as many for the rows' gradient and the weights'.
    assert SMALL.flops == 2 * 3 * 6144


@pytest.mark.parametrize("precision", [*ON_CPU, *ON_GPU], ids=lambda precision: precision.name)
def test_a_pass_is_that_of_each_expert_on_its_rows(precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[FeedForwardExperts, Tensor, Routing]] = []
    forward = FeedForwardExperts.forward

    def watched(self: FeedForwardExperts, rows: Tensor, routing: Routing) -> tuple[Tensor, MoEReport]:
        seen.append((self, rows, routing))
        out, report = forward(self, rows, routing)
        assert out.dtype == precision.of_products
        out.register_hook(grads.append)
        return out, report

    monkeypatch.setattr(FeedForwardExperts, "forward", watched)
    grads: list[Tensor] = []
    torch.manual_seed(0)
    with as_on_gpu():
        gradient = products_benchmark._passes(SMALL, precision, torch.device("cpu"))()
    ((experts, rows, routing),) = seen
    first, last = (weight.double() for weight in experts.weights)
    assert {weight.dtype for weight in experts.weights} == {precision.dtype}
    twin = rows.detach().double().requires_grad_()
    outs = [
        (x @ w1.mT).relu() @ w2.mT
        for x, w1, w2 in zip(twin.split(routing.tokens_per_expert.tolist()), first, last, strict=True)
    ]
    torch.cat(outs).backward(grads[0].double())
    assert twin.grad is not None
    error = (gradient.double() - twin.grad).norm() / twin.grad.norm()
    assert error < (1e-6 if precision.of_products is torch.float32 else 0.02)
    assert all(weight.grad is not None and weight.grad.any() for weight in experts.weights)


def test_a_size_that_does_not_run_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(size: BankSize, *others: object) -> object:
        if size.num_experts > 3:
            raise torch.OutOfMemoryError
        return passes(size, *others)  # type: ignore[arg-type]

    passes = products_benchmark._passes
    monkeypatch.setattr(products_benchmark, "_passes", without_memory)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    *_, figures = measure_products([BankSize(4, 8, 8, 16), SMALL], num_rounds=2)
    failed, measured = figures["rows"]
    assert (failed["num_experts"], failed["reason"]) == (4, "does not fit")
    assert measured["tflops"] == pytest.approx(SMALL.flops / measured["seconds"] / 1e12)
    assert measured["share_of_dense"] == pytest.approx(measured["tflops"] / measured["dense_tflops"])
