"""Balancing losses and utilisation figures, worked by hand."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from outrageous.moe import MoEReport, balancing_loss, cv_squared, utilisation


@pytest.fixture
def report() -> MoEReport:
    # importance: mean 2, deviations -1 0 1, population variance 2/3, CV² = (2/3) / 4 = 1/6
    # load:       mean 3, deviations 1 1 -2, population variance 6/3 = 2, CV² = 2/9
    return MoEReport(
        tokens_per_expert=torch.tensor([4, 4, 1]),
        importance=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True),
        load=torch.tensor([4.0, 4.0, 1.0], dtype=torch.float64, requires_grad=True),
        threshold_loss=torch.zeros(()),
    )


def test_cv_squared_by_hand(report: MoEReport) -> None:
    assert cv_squared(report.importance).item() == pytest.approx(1 / 6, abs=1e-12)
    assert cv_squared(report.load).item() == pytest.approx(2 / 9, abs=1e-12)


@pytest.mark.parametrize("values", [[5.0], [2.0, 2.0, 2.0], [0.0, 0.0]], ids=["one expert", "even", "empty batch"])
def test_cv_squared_is_zero_with_a_finite_gradient(values: list[float]) -> None:
    x = torch.tensor(values, requires_grad=True)
    cv_squared(x).backward()
    assert cv_squared(x).item() == 0
    assert_close(x.grad, torch.zeros_like(x))


def test_cv_squared_ignores_scale() -> None:
    x = torch.rand(7, dtype=torch.float64)
    assert_close(cv_squared(1000 * x), cv_squared(x), rtol=1e-9, atol=1e-9)


def test_cv_squared_of_one_busy_expert_is_n_minus_one() -> None:
    # N = 4, (8, 0, 0, 0): mean 2, variance (36 + 3·4) / 4 = 12, CV² = 12 / 4 = 3
    assert cv_squared(torch.tensor([8.0, 0.0, 0.0, 0.0])).item() == pytest.approx(3)


def test_balancing_loss_by_hand(report: MoEReport) -> None:
    assert balancing_loss(report, 0.1, 0.2).item() == pytest.approx(0.1 / 6 + 0.2 * 2 / 9, abs=1e-12)
    assert balancing_loss(report, 0.0, 0.0).item() == 0


def test_balancing_loss_gradient(report: MoEReport) -> None:
    def loss(importance: Tensor, load: Tensor) -> Tensor:
        return balancing_loss(MoEReport(report.tokens_per_expert, importance, load, report.threshold_loss), 0.1, 0.2)

    assert torch.autograd.gradcheck(loss, (report.importance, report.load))


def test_descent_on_the_balancing_loss_evens_out(report: MoEReport) -> None:
    balancing_loss(report, 1.0, 1.0).backward()
    assert report.importance.grad is not None
    assert report.load.grad is not None
    assert report.importance.grad[0] < 0 < report.importance.grad[2]  # raise the idle expert, lower the busy one
    assert report.load.grad[2] < 0 < report.load.grad[0]


def test_utilisation_by_hand(report: MoEReport) -> None:
    figures = utilisation(report)
    assert {name: figure.item() for name, figure in figures.items()} == pytest.approx(
        {"cv_importance": (1 / 6) ** 0.5, "cv_load": 2**0.5 / 3, "max_over_mean_load": 4 / 3}
    )
    assert not any(figure.requires_grad for figure in figures.values())
