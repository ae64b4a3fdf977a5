"""The factored Adam against Adam, a slow twin, and numbers worked by hand."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from outrageous.optim import factored_adam
from outrageous.optim.factored_adam import FactoredAdam


def steps(weight: Tensor, gradients: list[Tensor], **settings: Any) -> tuple[Tensor, FactoredAdam]:
    """The weight after a step with each gradient."""
    parameter = nn.Parameter(weight.clone())
    optimizer = FactoredAdam([parameter], **settings)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        assert torch.equal(parameter.grad, gradient)  # it is the user's, before and after
    return parameter.detach(), optimizer


def twin(weight: Tensor, gradients: list[Tensor], lr: float, beta2: float, eps: float) -> Tensor:
    """One matrix, in loops, from the definition: the whole average is kept and only then reduced to its means."""
    weight = weight.clone()
    average = torch.zeros_like(weight)
    out, in_ = weight.shape
    for step, gradient in enumerate(gradients, start=1):
        average = beta2 * average + (1 - beta2) * gradient**2
        corrected = average / (1 - beta2**step) + eps**2
        for i in range(out):
            for j in range(in_):
                estimate = corrected[i].mean() * corrected[:, j].mean() / corrected.mean()
                weight[i, j] -= lr * gradient[i, j] / math.sqrt(estimate)
    return weight


def test_numbers_worked_by_hand() -> None:
    # Step 1: G² = [[1, 4], [4, 16]] is of rank one, so V̂ = G² and each element moves by lr.
    # Step 2: G² = [[0, 4], [0, 0]]. Averages, half old and half new: rows ½·½·[2.5, 10] + ½·[2, 0] = [1.625, 2.5],
    #   columns ½·½·[2.5, 10] + ½·[0, 2] = [0.625, 3.5], mean of either 2.0625; correction 1 - ½² = ¾.
    #   V̂_01 = 1.625 · 3.5 / 2.0625 / ¾ = 3.676768; the element moves by 0.1 · 2 / √3.676768 = 0.104303.
    gradients = [torch.tensor([[[1.0, 2.0], [-2.0, 4.0]]]), torch.tensor([[[0.0, 2.0], [0.0, 0.0]]])]
    first, _ = steps(torch.zeros(1, 2, 2), gradients[:1], lr=0.1, beta2=0.5)
    torch.testing.assert_close(first, torch.tensor([[[-0.1, -0.1], [0.1, -0.1]]]))
    second, optimizer = steps(torch.zeros(1, 2, 2), gradients, lr=0.1, beta2=0.5)
    torch.testing.assert_close(second, torch.tensor([[[-0.1, -0.204303], [0.1, -0.1]]]), rtol=0, atol=1e-6)
    (state,) = optimizer.state.values()
    torch.testing.assert_close(state["row_mean"], torch.tensor([[1.625, 2.5]]))
    torch.testing.assert_close(state["column_mean"], torch.tensor([[0.625, 3.5]]))


def test_a_squared_gradient_of_rank_one_makes_it_adam_without_a_first_moment() -> None:
    rows, columns = torch.randn(3, 5, 1).double(), torch.randn(3, 1, 4).double()
    sizes = torch.rand(6, 3, 1, 1).double()
    gradients = [size * rows * columns for size in sizes]
    start = torch.randn(3, 5, 4).double()
    parameter = nn.Parameter(start.clone())
    adam = torch.optim.Adam([parameter], lr=0.1, betas=(0.0, 0.9), eps=1e-15)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        adam.step()
    factored, _ = steps(start, gradients, lr=0.1, beta2=0.9, eps=1e-15)
    torch.testing.assert_close(factored, parameter.detach())


@given(
    shape=st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(1, 5)),
    num_steps=st.integers(1, 3),
    eps=st.sampled_from([1e-8, 0.1]),
    elements_per_block=st.sampled_from([1, 40, 10**6]),
)
def test_every_expert_is_updated_like_a_matrix_of_its_own(
    shape: tuple[int, int, int], num_steps: int, eps: float, elements_per_block: int
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64)
    gradients = [torch.randn(shape, dtype=torch.float64) for _ in range(num_steps)]
    settings = {"lr": 0.1, "beta2": 0.9, "eps": eps}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factored_adam, "elements_per_block", lambda parameter: elements_per_block)
        updated, _ = steps(weight, gradients, **settings)
    for expert, matrix in enumerate(updated):
        expected = twin(weight[expert], [gradient[expert] for gradient in gradients], **settings)
        torch.testing.assert_close(matrix, expected)


@given(first=st.integers(0, 6), second=st.integers(0, 6))
def test_updating_a_slice_of_the_experts_is_slicing_the_update(first: int, second: int) -> None:
    torch.manual_seed(0)
    part = slice(min(first, second), max(first, second))
    weight, gradients = torch.randn(6, 3, 4), [torch.randn(6, 3, 4) for _ in range(3)]
    whole, _ = steps(weight, gradients, lr=0.1)
    sliced, _ = steps(weight[part], [gradient[part] for gradient in gradients], lr=0.1)
    assert torch.equal(sliced, whole[part])


def test_a_matrix_and_a_stack_of_stacks_are_experts_too() -> None:
    weight, gradients = torch.randn(2, 3, 4, 5), [torch.randn(2, 3, 4, 5) for _ in range(2)]
    stacked, _ = steps(weight, gradients)
    flat, _ = steps(weight.flatten(0, 1), [gradient.flatten(0, 1) for gradient in gradients])
    assert torch.equal(stacked.flatten(0, 1), flat)
    matrix, optimizer = steps(weight[0, 1], [gradient[0, 1] for gradient in gradients])
    assert torch.equal(matrix, flat[1])
    (state,) = optimizer.state.values()
    assert (state["row_mean"].shape, state["column_mean"].shape) == ((4,), (5,))


def test_a_vector_keeps_its_second_moment_whole() -> None:
    start, gradients = torch.randn(7).double(), [torch.randn(7).double() for _ in range(3)]
    parameter = nn.Parameter(start.clone())
    adam = torch.optim.Adam([parameter], lr=0.1, betas=(0.0, 0.9), eps=1e-15)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        adam.step()
    torch.testing.assert_close(steps(start, gradients, lr=0.1, beta2=0.9, eps=1e-15)[0], parameter.detach())
    scalar, _ = steps(torch.tensor(1.0), [torch.tensor(-3.0)], lr=0.1)
    assert scalar.item() == pytest.approx(1.1)


def test_an_expert_without_tokens_stays_as_it_is_while_its_average_decays() -> None:
    gradients = [torch.randn(2, 3, 4), torch.randn(2, 3, 4)]
    gradients[1][0] = 0
    once, _ = steps(torch.zeros(2, 3, 4), gradients[:1], beta2=0.9)
    twice, optimizer = steps(torch.zeros(2, 3, 4), gradients, beta2=0.9)
    assert torch.equal(twice[0], once[0])
    assert not torch.equal(twice[1], once[1])
    (state,) = optimizer.state.values()
    torch.testing.assert_close(state["row_mean"][0], 0.9 * 0.1 * gradients[0][0].square().mean(1))


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1e12])
def test_no_size_of_gradient_makes_it_nan(size: float) -> None:
    gradients = [size * torch.randn(2, 3, 4) for _ in range(2)]
    updated, _ = steps(torch.zeros(2, 3, 4), gradients, lr=0.1)
    assert updated.isfinite().all()
    assert updated.abs().max() < 1
    assert (updated.abs().max() == 0) == (size == 0)


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    used, unused = nn.Parameter(torch.zeros(1, 2, 2)), nn.Parameter(torch.zeros(1, 2, 2))
    optimizer = FactoredAdam([used, unused])
    used.grad = torch.ones(1, 2, 2)
    optimizer.step()
    assert list(optimizer.state) == [used]
    assert unused.abs().max() == 0


def test_groups_have_settings_of_their_own() -> None:
    slow, fast = nn.Parameter(torch.zeros(1, 2, 2)), nn.Parameter(torch.zeros(1, 2, 2))
    optimizer = FactoredAdam([{"params": [slow], "lr": 0.1}, {"params": [fast], "lr": 0.2}])
    for parameter in (slow, fast):
        parameter.grad = torch.ones(1, 2, 2)
    optimizer.step()
    torch.testing.assert_close(
        (slow.detach(), fast.detach()), (torch.full((1, 2, 2), -0.1), torch.full((1, 2, 2), -0.2))
    )


def test_it_goes_on_from_a_saved_state_as_if_never_stopped() -> None:
    weight, gradients = torch.randn(3, 4, 5), [torch.randn(3, 4, 5) for _ in range(5)]
    whole, _ = steps(weight, gradients)
    half, before = steps(weight, gradients[:2])
    parameter = nn.Parameter(half)
    after = FactoredAdam([parameter], lr=9.0)  # the saved settings count
    after.load_state_dict(before.state_dict())
    for gradient in gradients[2:]:
        parameter.grad = gradient
        after.step()
    assert torch.equal(parameter.detach(), whole)


def test_the_closure_is_called_once_and_with_gradients() -> None:
    parameter = nn.Parameter(torch.ones(1, 2, 2))
    optimizer = FactoredAdam([parameter], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = parameter.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4
    torch.testing.assert_close(parameter.detach(), torch.full((1, 2, 2), 0.9))


@pytest.mark.parametrize(
    "settings", [{"lr": -0.1}, {"lr": math.nan}, {"beta2": 1.0}, {"beta2": -0.1}, {"eps": 0.0}, {"eps": math.nan}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))}="):
        FactoredAdam([nn.Parameter(torch.ones(1, 2, 2))], **settings)


class Allocations(TorchDispatchMode):
    """Bytes of the largest memory that an operation put a result in, where it is none of the given tensors'."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return result


def test_its_temporaries_are_of_the_size_of_one_expert() -> None:
    parameter = nn.Parameter(torch.randn(8, 512, 512))
    parameter.grad = torch.randn(8, 512, 512)
    optimizer = FactoredAdam([parameter])
    with Allocations(parameter, parameter.grad) as allocations:
        optimizer.step()
    assert allocations.largest == parameter[0].nbytes
    (state,) = optimizer.state.values()
    assert sum(tensor.numel() for tensor in state.values()) == 8 * (512 + 512) + 1
