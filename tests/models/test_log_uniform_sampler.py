"""The sampler of classes: its distribution, and what it says of the distribution."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from outrageous.models.sampled_softmax import LogUniformSampler, Sample

CPU = torch.device("cpu")


def p(k: int, num_classes: int) -> float:
    return math.log((k + 2) / (k + 1)) / math.log(num_classes + 1)


def one_at_a_time(num_classes: int, num_sampled: int, uniform: list[float]) -> tuple[list[int], int]:
    """Draws ⌊exp(u·log(V+1))⌋ - 1 until num_sampled distinct classes are found; these, and how many draws it took."""
    classes: list[int] = []
    for num_tries, u in enumerate(uniform, start=1):
        k = math.floor(math.exp(u * math.log(num_classes + 1))) - 1
        if k not in classes:
            classes.append(k)
        if len(classes) == num_sampled:
            return classes, num_tries
    raise AssertionError("too few uniform numbers")


@given(st.data(), st.integers(2, 60), st.integers(0, 1000))
def test_sample_equals_drawing_one_at_a_time(data: st.DataObject, num_classes: int, seed: int) -> None:
    num_sampled = data.draw(st.integers(1, num_classes - 1))
    torch.manual_seed(seed)
    sample = LogUniformSampler(num_classes, num_sampled).sample(CPU)
    torch.manual_seed(seed)
    uniform = torch.rand(20_000, dtype=torch.float64).tolist()
    classes, num_tries = one_at_a_time(num_classes, num_sampled, uniform)
    assert sample.classes.tolist() == classes
    assert sample.num_tries.item() == num_tries


def test_draws_follow_the_distribution() -> None:
    num_classes, num_draws = 50, 400_000
    drawn = LogUniformSampler(num_classes, 10).draw(num_draws, CPU)
    counts = torch.bincount(drawn, minlength=num_classes).double()
    expected = num_draws * torch.tensor([p(k, num_classes) for k in range(num_classes)], dtype=torch.float64)
    assert expected.sum().item() == pytest.approx(num_draws)  # p adds up to one
    # chi-square with 49 degrees of freedom: mean 49, standard deviation 9.9
    assert ((counts - expected).square() / expected).sum() < 100
    # rounded instead of floored, class 0 would be drawn log(1.5)/log(2) = 0.585 times as often
    assert counts[0].item() == pytest.approx(expected[0].item(), rel=0.02)


def test_the_first_class_of_a_sample_follows_the_distribution() -> None:
    sampler = LogUniformSampler(10, 4)
    first = torch.stack([sampler.sample(CPU).classes[0] for _ in range(4000)])
    for k in range(10):
        # standard error at most √(1/4 / 4000) = 0.008
        assert (first == k).double().mean().item() == pytest.approx(p(k, 10), abs=0.03)


def test_the_largest_uniform_number_is_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    for num_classes in (10, 1000, 793_471):
        largest = torch.full((4,), 1 - 2**-53, dtype=torch.float64)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "rand", lambda *_, largest=largest, **__: largest)
            assert LogUniformSampler(num_classes, 2).draw(4, CPU).tolist() == [num_classes - 1] * 4


def test_a_sample_depends_on_the_seed_alone() -> None:
    sampler = LogUniformSampler(200, 150)  # takes several rounds of draws
    torch.manual_seed(5)
    first = sampler.sample(CPU)
    sampler.sample(CPU)
    torch.manual_seed(5)
    assert torch.equal(sampler.sample(CPU).classes, first.classes)


def test_one_billion_words() -> None:
    sampler = LogUniformSampler(793_471, 8192)
    sample = sampler.sample(CPU)
    assert sample.classes.unique().numel() == 8192
    assert 0 <= sample.classes.min() <= sample.classes.max() < 793_471
    assert sample.num_tries.item() == pytest.approx(16_050, rel=0.03)
    # the expected number of distinct classes in that many tries is the number that was found
    expected_distinct = sampler.expected_count(torch.arange(793_471), sample.num_tries).double().sum().item()
    assert expected_distinct == pytest.approx(8192, rel=0.02)


def test_expected_count_equals_the_formula() -> None:
    sampler = LogUniformSampler(1000, 5)
    classes = torch.tensor([0, 1, 10, 999])
    for num_tries in (1, 7, 100):
        expected = [1 - (1 - p(k, 1000)) ** num_tries for k in classes.tolist()]
        count = sampler.expected_count(classes, torch.tensor(num_tries))
        assert_close(count, torch.tensor(expected), rtol=1e-6, atol=0)


def test_expected_count_keeps_its_precision_for_the_rarest_class() -> None:
    sampler = LogUniformSampler(793_471, 8192)
    count = sampler.expected_count(torch.tensor([793_470]), torch.tensor(1))
    assert count.item() == pytest.approx(p(793_470, 793_471), rel=1e-6)  # 9.3e-8: 1 - (1 - p) would lose it in float32


def test_expected_count_is_how_often_a_class_is_found() -> None:
    num_classes, num_tries, num_samples = 30, 12, 20_000
    sampler = LogUniformSampler(num_classes, 8)
    drawn = sampler.draw(num_tries * num_samples, CPU).view(num_samples, num_tries)
    found = torch.zeros(num_samples, num_classes).scatter(1, drawn, 1.0).mean(dim=0)
    count = sampler.expected_count(torch.arange(num_classes), torch.tensor(num_tries))
    assert_close(found, count, rtol=0, atol=0.015)  # standard error at most 0.0035


@pytest.mark.parametrize("num_sampled", [0, 10, 11])
def test_number_of_samples_must_fit(num_sampled: int) -> None:
    with pytest.raises(ValueError, match=rf"num_sampled={num_sampled}.* = 9"):
        LogUniformSampler(10, num_sampled)


def test_all_classes_but_one_can_be_sampled() -> None:
    sample = LogUniformSampler(10, 9).sample(CPU)
    assert isinstance(sample, Sample)
    assert sample.classes.unique().numel() == 9
