"""The layer as a GPU computes it: without waiting, and near float64 on a CPU. Where there is no GPU, the same code runs
on a CPU, and on the meta device, where whoever asks for a number gets an error."""

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from outrageous.moe import (
    FeedForwardExperts,
    Mixtures,
    MoE,
    NoisyTopKGate,
    NoisyTopKGates,
    SoftmaxGate,
    StrictlyBalancedGate,
    StrictlyBalancedGates,
    balancing_loss,
)
from outrageous.moe.device import as_on_gpu
from outrageous.moe.grouped import tiled_linear
from outrageous.moe.routing import starts_and_counts

# Odd sizes; with 30 tokens some of 40 experts have none.
LAYERS: dict[str, Callable[[bool], MoE]] = {
    "noisy": lambda recompute: MoE(NoisyTopKGate(13, 40, 2), FeedForwardExperts(40, 13, [21, 9], recompute)),
    "noisy hierarchy": lambda recompute: MoE(
        NoisyTopKGate(13, 8, 2), Mixtures(NoisyTopKGates(8, 13, 5, 1), FeedForwardExperts(40, 13, 21, recompute))
    ),
    "softmax": lambda recompute: MoE(SoftmaxGate(13, 3), FeedForwardExperts(3, 13, 21, recompute)),
    "balanced": lambda recompute: MoE(StrictlyBalancedGate(13, 8, 2), FeedForwardExperts(8, 13, 21, recompute)),
    "balanced hierarchy": lambda recompute: MoE(
        StrictlyBalancedGate(13, 4, 2), Mixtures(StrictlyBalancedGates(4, 13, 3, 1), FeedForwardExperts(12, 13, 21))
    ),
}


def loss_of(layer: MoE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of the layer's output, and all of it."""
    y, report = layer(x)
    return y, y.float().square().mean() + balancing_loss(report, 0.1, 0.1) + report.threshold_loss


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "balanced hierarchy"])
def test_no_step_asks_for_a_number(kind: str, recompute: bool) -> None:
    with torch.device("meta"):
        layer = LAYERS[kind](recompute).bfloat16()
        x = torch.randn(30, 13, dtype=torch.bfloat16, requires_grad=True)
    y, loss = loss_of(layer, x)
    loss.backward()
    assert y.shape == x.shape
    assert all(tensor.grad is not None for tensor in (x, *layer.parameters()))


def test_a_layer_that_asks_is_found_out() -> None:
    """In evaluation thresholds decide how many experts a token has."""
    with torch.device("meta"):
        layer = LAYERS["balanced"](False).bfloat16().eval()
        x = torch.randn(30, 13, dtype=torch.bfloat16)
    with pytest.raises(NotImplementedError, match="nonzero"):
        layer(x)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize(
    ("kind", "dtype", "recompute"), list(itertools.product(LAYERS, [torch.float32, torch.bfloat16], [False, True]))
)
def test_outputs_and_gradients_are_those_of_float64(
    kind: str, dtype: torch.dtype, recompute: bool, device: str
) -> None:
    """As a GPU computes, on either: relative errors below 1e-5 in float32 and, with experts and rows in bfloat16 by
    autocast, below 1e-2."""
    layer = LAYERS[kind](recompute)
    for name, weight in layer.named_parameters():
        if name.endswith("w_gate"):
            torch.nn.init.normal_(weight)
    layer.train("balanced" in kind)  # no noise
    x = torch.randn(30, 13, requires_grad=True)
    on_device, x_on_device = copy.deepcopy(layer).to(device), x.detach().to(device).requires_grad_()
    with as_on_gpu():
        with torch.autocast(device, torch.bfloat16, enabled=dtype is torch.bfloat16):
            y, loss = loss_of(on_device, x_on_device)
        grads = torch.autograd.grad(loss, [x_on_device, *on_device.parameters()], allow_unused=True)

    exact, exact_x = layer.double(), x.detach().double().requires_grad_()
    exact_y, exact_loss = loss_of(exact, exact_x)
    exact_grads = torch.autograd.grad(exact_loss, [exact_x, *exact.parameters()], allow_unused=True)
    for value, expected in zip((y, *grads), (exact_y, *exact_grads), strict=True):
        assert (value is None) == (expected is None)
        if expected is not None:
            error = (value.cpu().double() - expected).norm() / expected.norm().clamp_min(1e-12)
            assert error < (1e-5 if dtype is torch.float32 else 1e-2)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 12), st.booleans())
def test_tiles_equal_their_twin(counts: list[int], rows_per_tile: int, strided: bool) -> None:
    torch.manual_seed(0)
    rows = torch.randn(sum(counts), 3, dtype=torch.float64, requires_grad=True)
    weight = (
        torch.randn(len(counts), 3, 2, dtype=torch.float64).mT if strided else torch.randn(len(counts), 2, 3).double()
    )
    weight.requires_grad_()
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    out, expected = (
        tiled_linear(rows, weight, torch.tensor(counts), rows_per_tile),
        (weight[owner] @ rows[..., None])[..., 0],
    )
    assert_close(out, expected, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(out)
    grads = torch.autograd.grad(out, [rows, weight], direction)
    assert_close(grads, torch.autograd.grad(expected, [rows, weight], direction), rtol=1e-9, atol=1e-9)


@given(st.lists(st.integers(0, 6)))
def test_starts_and_counts_of_what_rises(numbers: list[int]) -> None:
    numbers = sorted(numbers)
    starts, counts = starts_and_counts(torch.tensor(numbers, dtype=torch.int64), 7)
    assert counts.tolist() == [numbers.count(n) for n in range(7)]
    assert starts.tolist() == [sum(other < n for other in numbers) for n in range(7)]
