"""The learning-rate schedule, worked by hand."""

import pytest
import torch

from outrageous.optim.schedules import warmup_then_inverse_sqrt


def test_factors_by_hand() -> None:
    factor = warmup_then_inverse_sqrt(4)
    # the first step is taken after 0 steps done: 1/4 2/4 3/4 4/4, then √(4/step)
    assert [factor(done) for done in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert factor(4) == pytest.approx((4 / 5) ** 0.5)
    assert factor(15) == 0.5  # step 16: √(4/16)
    assert factor(399) == pytest.approx(0.1)  # step 400: √(4/400)


def test_the_peak_is_at_the_end_of_the_warm_up() -> None:
    factor = warmup_then_inverse_sqrt(1000)
    factors = [factor(done) for done in range(3000)]
    assert factors.index(max(factors)) == 999
    assert factors[999] == 1
    assert factors[:1000] == sorted(factors[:1000])
    assert factors[999:] == sorted(factors[999:], reverse=True)


def test_a_flat_stretch_by_hand() -> None:
    factor = warmup_then_inverse_sqrt(2, flat_until=4)
    # 1/2, then 1 at steps 2, 3, 4, then √(4/step)
    assert [factor(done) for done in range(4)] == [0.5, 1, 1, 1]
    assert factor(15) == 0.5  # step 16: √(4/16)
    assert [warmup_then_inverse_sqrt(3, 3)(done) for done in range(9)] == [
        warmup_then_inverse_sqrt(3)(done) for done in range(9)
    ]


def test_a_flat_stretch_cannot_end_before_it_begins() -> None:
    with pytest.raises(ValueError, match="flat_until=3: must be at least warmup_steps=4"):
        warmup_then_inverse_sqrt(4, flat_until=3)


def test_no_warm_up_is_one_step() -> None:
    assert [warmup_then_inverse_sqrt(1)(done) for done in (0, 3)] == [1, 0.5]


def test_learning_rates_of_an_optimizer() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=8.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_inverse_sqrt(2))
    used = []
    for _ in range(8):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert used == pytest.approx(
        [4.0, 8.0, 8 * (2 / 3) ** 0.5, 8 * 0.5**0.5, 8 * 0.4**0.5, 8 * (1 / 3) ** 0.5, 8 * (2 / 7) ** 0.5, 4.0]
    )


@pytest.mark.parametrize("warmup_steps", [0, -5])
def test_warm_up_must_be_positive(warmup_steps: int) -> None:
    with pytest.raises(ValueError, match=f"warmup_steps={warmup_steps}"):
        warmup_then_inverse_sqrt(warmup_steps)
