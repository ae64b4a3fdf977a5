"""Products of rows with the matrix of their group: the loop of a CPU and the kernel of a GPU."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from outrageous.moe import FeedForwardExperts, MoE, NoisyTopKGate, grouped
from outrageous.moe.device import as_on_gpu
from outrageous.moe.grouped import GroupSizes, grouped_linear, grouped_mm
from outrageous.moe.part import BatchPart, at_hand

COUNTS = [[2, 0, 3], [0, 0, 1], [7, 9, 1]]


def twin(rows: Tensor, weight: Tensor, sizes: GroupSizes) -> Tensor:
    owners = torch.arange(len(weight)).repeat_interleave(sizes.rows_per_group.cpu()).tolist()
    out = [weight[owner] @ row for row, owner in zip(rows, owners, strict=True)]
    return torch.stack(out) if out else rows.new_zeros(0, weight.shape[1]) + 0 * weight.sum()


def gradients(
    product: Callable[[Tensor, Tensor, GroupSizes], Tensor], rows: Tensor, weight: Tensor, per_group: Tensor
) -> tuple[Tensor, ...]:
    rows, weight = rows.detach().requires_grad_(), weight.detach().requires_grad_()
    out = product(rows, weight, GroupSizes(per_group, len(rows)))
    direction = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape).to(out.dtype)
    return out, *torch.autograd.grad(out, [rows, weight], direction, allow_unused=True, materialize_grads=True)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(1, 5), st.integers(1, 5))
def test_loop_equals_its_twin(counts: list[int], num_in: int, num_out: int) -> None:
    torch.manual_seed(0)
    rows = torch.randn(sum(counts), num_in, dtype=torch.float64)
    weight = torch.randn(len(counts), num_out, num_in, dtype=torch.float64)
    per_group = torch.tensor(counts)
    assert_close(
        gradients(grouped_linear, rows, weight, per_group),
        gradients(twin, rows, weight, per_group),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("counts", [*COUNTS, [0, 0, 0]])
def test_loop_gradcheck(counts: list[int]) -> None:
    rows = torch.randn(sum(counts), 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    sizes = GroupSizes(torch.tensor(counts), sum(counts))
    assert torch.autograd.gradcheck(lambda rows, weight: grouped_linear(rows, weight, sizes), (rows, weight))


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(("num_in", "num_out"), [(8, 16), (5, 3), (16, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernel_equals_its_twin_whatever_the_sizes(
    counts: list[int], num_in: int, num_out: int, dtype: torch.dtype
) -> None:
    """PyTorch's kernel also runs on a CPU, slowly."""
    rows = torch.randn(sum(counts), num_in)
    weight = torch.randn(len(counts), num_out, num_in)
    per_group = torch.tensor(counts)
    tolerance = 1e-5 if dtype is torch.float32 else 0.02
    values = gradients(grouped_mm, rows.to(dtype), weight.to(dtype), per_group)
    for value, expected in zip(values, gradients(twin, rows, weight, per_group), strict=True):
        assert value.dtype == dtype
        assert (value.float() - expected).norm() <= tolerance * expected.norm()


@given(st.lists(st.integers(0, 4), min_size=4, max_size=9).filter(any))
def test_more_groups_than_the_kernel_takes_are_multiplied_in_runs(counts: list[int]) -> None:
    """Here it takes three; a run without rows has gradients too."""
    torch.manual_seed(0)
    rows, weight = torch.randn(sum(counts), 5), torch.randn(len(counts), 3, 5)
    per_group = torch.tensor(counts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouped, "MOST_GROUPS", 3)
        assert len(GroupSizes(per_group, len(rows)).runs) == -(-len(counts) // 3)
        values = gradients(grouped_mm, rows, weight, per_group)
    assert_close(values, gradients(twin, rows, weight, per_group), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("most", "questions"), [(6, 0), (5, 1)])
def test_the_host_asks_once_a_layer_where_runs_begin(
    recompute: bool, most: int, questions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Asked(BatchPart):
        def counts(self, rows: Tensor, total: int) -> list[int]:
            asked.append(len(rows))
            return super().counts(rows, total)

    monkeypatch.setattr(grouped, "MOST_GROUPS", most)
    layer = MoE(NoisyTopKGate(12, 6, 2), FeedForwardExperts(6, 12, [20, 9], recompute)).bfloat16()
    with as_on_gpu(), at_hand(Asked()):
        layer(torch.randn(30, 12, dtype=torch.bfloat16))[0].sum().backward()
    assert asked == [2] * questions  # two runs of three


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counts", [*COUNTS, [0, 0, 0]])
@pytest.mark.parametrize(("num_in", "num_out"), [(8, 16), (5, 3)])
def test_gpu_equals_the_twin(counts: list[int], num_in: int, num_out: int, dtype: torch.dtype) -> None:
    rows = torch.randn(sum(counts), num_in)
    weight = torch.randn(len(counts), num_out, num_in)
    per_group = torch.tensor(counts)
    torch.full((len(counts), 64, 64), torch.nan, device="cuda")  # what is left unwritten in the memory of this shows
    values = gradients(grouped_linear, rows.to("cuda", dtype), weight.to("cuda", dtype), per_group.cuda())
    tolerance = 1e-5 if dtype is torch.float32 else 1e-2
    for value, expected in zip(values, gradients(twin, rows, weight, per_group), strict=True):
        assert (value.cpu().float() - expected).norm() <= tolerance * expected.norm()


@pytest.mark.cuda
@pytest.mark.parametrize("num_groups", [1023, 1024, 4096])
def test_gpu_equals_the_twin_with_thousands_of_groups(num_groups: int) -> None:
    """Of which some have no rows."""
    per_group = torch.arange(num_groups) % 4
    rows, weight = torch.randn(int(per_group.sum()), 16), torch.randn(num_groups, 8, 16)
    values = gradients(
        grouped_linear, rows.to("cuda", torch.bfloat16), weight.to("cuda", torch.bfloat16), per_group.cuda()
    )
    for value, expected in zip(values, gradients(grouped_linear, rows, weight, per_group), strict=True):
        assert (value.cpu().float() - expected).norm() <= 1e-2 * expected.norm()


@pytest.mark.cuda
@pytest.mark.parametrize("recompute", [False, True])
def test_layer_on_a_gpu_equals_the_layer_on_a_cpu(recompute: bool) -> None:
    gate = NoisyTopKGate(12, 6, 2)
    torch.nn.init.normal_(gate.w_gate)
    layer = MoE(gate, FeedForwardExperts(6, 12, [20, 9], recompute)).eval()
    x = torch.randn(30, 12)
    y, _ = layer(x)
    expected = torch.autograd.grad(y.square().sum(), list(layer.parameters()), allow_unused=True)
    layer.cuda()
    y_gpu, _ = layer(x.cuda())
    grads = torch.autograd.grad(y_gpu.square().sum(), list(layer.parameters()), allow_unused=True)
    assert_close(y_gpu.cpu(), y, rtol=1e-2, atol=1e-2)
    for grad, want in zip(grads, expected, strict=True):
        assert (grad is None) == (want is None)
        if want is not None:
            assert (grad.cpu() - want).norm() <= 1e-2 * want.norm()


@pytest.mark.cuda
def test_the_gpu_is_not_waited_for() -> None:
    experts = FeedForwardExperts(4, 16, 32).cuda().bfloat16()
    layer = MoE(NoisyTopKGate(16, 4, 2).cuda(), experts)
    x = torch.randn(64, 16, device="cuda", dtype=torch.bfloat16)
    layer(x)[0].sum().backward()  # whatever is set up at first use
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer(x)[0].sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
