"""Several optimizers as one."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from outrageous.optim.combined import CombinedOptimizer
from outrageous.optim.factored_adam import FactoredAdam


def two() -> tuple[nn.Parameter, nn.Parameter]:
    torch.manual_seed(0)
    return nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(2, 3, 4))


def combined(dense: nn.Parameter, expert: nn.Parameter, lr: float = 0.1) -> CombinedOptimizer:
    return CombinedOptimizer(torch.optim.Adam([dense], lr=lr, fused=True), FactoredAdam([expert], lr=lr))


def train(parameters: tuple[nn.Parameter, nn.Parameter], steps: range, *optimizers: Any) -> None:
    """Each step with random gradients of its own; the learning rate falls."""
    for step in steps:
        torch.manual_seed(step)
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (step + 1)
            optimizer.step()


def test_it_does_what_its_parts_do_alone() -> None:
    apart, together = two(), two()
    train(apart, range(4), torch.optim.Adam([apart[0]], fused=True), FactoredAdam([apart[1]]))
    train(together, range(4), combined(*together))
    assert all(torch.equal(*pair) for pair in zip(together, apart, strict=True))


def test_a_schedule_changes_the_learning_rate_of_every_part() -> None:
    optimizer = combined(*two())
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.25)
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.025, 0.025]


def test_it_goes_on_from_a_saved_state_as_if_never_stopped() -> None:
    whole, halves = two(), two()
    train(whole, range(6), combined(*whole))
    before = combined(*halves)
    train(halves, range(3), before)
    saved = before.state_dict()
    assert saved["state"].keys() == {0, 1}  # of the ordinary form
    resumed: tuple[nn.Parameter, nn.Parameter] = tuple(  # type: ignore[assignment]
        nn.Parameter(parameter.detach().clone()) for parameter in halves
    )
    after = combined(*resumed, lr=9.0)
    after.load_state_dict(saved)
    assert after.parts[1].param_groups[0]["lr"] == pytest.approx(0.1 / 3)
    train(resumed, range(3, 6), after)
    assert all(torch.equal(*pair) for pair in zip(resumed, whole, strict=True))


def test_zero_grad_and_the_closure_reach_all() -> None:
    parameters = two()
    optimizer = combined(*parameters)
    calls = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        assert all(parameter.grad is None for parameter in parameters)
        loss = sum((parameter.sum() for parameter in parameters), torch.zeros(()))
        loss.backward()
        calls.append(loss)
        return loss

    before = [parameter.detach().clone() for parameter in parameters]
    parameters[0].grad = torch.ones(3)
    assert optimizer.step(closure) is calls[0]
    assert len(calls) == 1
    for parameter, start in zip(parameters, before, strict=True):
        torch.testing.assert_close(parameter.detach(), start - 0.1)  # a first step of Adam is lr in each direction


def test_a_parameter_in_two_parts_is_refused() -> None:
    dense, _ = two()
    with pytest.raises(ValueError, match="more than one parameter group"):
        CombinedOptimizer(torch.optim.SGD([dense]), torch.optim.Adam([dense]))
