"""The softmax over the vocabulary, sampled and in full, against loops."""

import math
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from outrageous.models.sampled_softmax import Sample, VocabularySoftmax
from outrageous.moe.device import as_on_gpu
from outrageous.training.peak_memory import peak_memory


def build(num_classes: int, d_model: int = 4, num_sampled: int = 1) -> VocabularySoftmax:
    softmax = VocabularySoftmax(num_classes, d_model, num_sampled).double()
    torch.nn.init.normal_(softmax.bias)
    return softmax


def sample_of(*classes: int, num_tries: int) -> Sample:
    return Sample(torch.tensor(classes), torch.tensor(num_tries))


def twin(softmax: VocabularySoftmax, hidden: Tensor, target: Tensor, sample: Sample) -> Tensor:
    """Token by token: cross-entropy of the true class among itself and the sampled classes that are not it."""
    log_q = softmax.sampler.expected_count(torch.arange(len(softmax.bias)), sample.num_tries).log().double()
    losses = []
    for h, true in zip(hidden, target.tolist(), strict=True):
        others = [k for k in sample.classes.tolist() if k != true]
        logits = torch.stack([h @ softmax.weight[k] + softmax.bias[k] - log_q[k] for k in [true, *others]])
        losses.append(torch.log(torch.exp(logits).sum()) - logits[0])
    return torch.stack(losses).mean()


@given(st.data(), st.integers(2, 30), st.integers(1, 8), st.sampled_from([1, 20, 10**9]))
def test_sampled_loss_equals_its_twin(
    data: st.DataObject, num_classes: int, num_tokens: int, logits_at_once: int
) -> None:
    num_sampled = data.draw(st.integers(1, num_classes - 1))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    softmax = build(num_classes, num_sampled=num_sampled)
    hidden = torch.randn(num_tokens, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randint(num_classes, (num_tokens,))  # often in the sample: accidental hits
    sample = softmax.sampler.sample(hidden.device)
    inputs = [hidden, softmax.weight, softmax.bias]
    with patch("outrageous.models.sampled_loss.LOGITS_ON_CPU", logits_at_once):
        loss = softmax.loss_for_sample(hidden, target, sample)
        grads = torch.autograd.grad(loss, inputs)
    expected = twin(softmax, hidden, target, sample)
    expected_grads = torch.autograd.grad(expected, inputs)
    assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    assert_close(grads, expected_grads, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("num_chunks", [1, 4])
def test_in_bfloat16_loss_and_gradients_are_near_those_in_float32(num_chunks: int, device: str) -> None:
    """As with trainer=gpu."""
    torch.manual_seed(0)
    softmax = VocabularySoftmax(900, 32, 128).to(device)
    hidden = torch.randn(200, 32, device=device, requires_grad=True)
    target = torch.randint(900, (200,), device=device)
    sample = softmax.sampler.sample(hidden.device)
    inputs = [hidden, softmax.weight, softmax.bias]
    found = []
    for enabled in (False, True):
        with (
            as_on_gpu(),
            patch("outrageous.models.sampled_loss.LOGITS_ON_GPU", 200 * 128 // num_chunks),
            torch.autocast(device, torch.bfloat16, enabled=enabled),
        ):
            loss = softmax.loss_for_sample(hidden, target, sample)
        found.append([loss, *torch.autograd.grad(loss, inputs)])
    for exact, value in zip(*found, strict=True):
        assert value.dtype == torch.float32
        assert (value - exact).norm() <= 0.01 * exact.norm()


def test_no_tokens_have_no_loss_and_no_gradient() -> None:
    """As of a process to whose part of a batch no sentence came."""
    softmax = build(9, num_sampled=3)
    hidden = torch.zeros(0, 4, dtype=torch.float64, requires_grad=True)
    loss = softmax.loss_for_sample(hidden, torch.zeros(0, dtype=torch.int64), sample_of(8, 3, 1, num_tries=4), 5)
    grads = torch.autograd.grad(loss, [hidden, softmax.weight, softmax.bias])
    assert loss == 0
    assert all(not grad.any() for grad in grads)


def test_sampled_loss_by_hand() -> None:
    # All logits 0, V = 3, two tries. p(0) = log 2 / log 4 = 1/2: Q(0) = 1 - 1/4 = 3/4.
    # p(2) = log(4/3) / log 4 = 0.207519: Q(2) = 1 - 0.792481² = 0.371974.
    # Target 2, sample {0}: true logit -log Q(2), sampled -log Q(0); loss log(1 + Q(2)/Q(0)) = log(1.495965) = 0.402772
    softmax = VocabularySoftmax(num_classes=3, d_model=2, num_sampled=1)
    hidden = torch.zeros(1, 2)
    loss = softmax.loss_for_sample(hidden, torch.tensor([2]), sample_of(0, num_tries=2))
    assert loss.item() == pytest.approx(0.402772, abs=1e-6)
    # Target 0 is all there is in the sample: an accidental hit, nothing to tell it from.
    assert softmax.loss_for_sample(hidden, torch.tensor([0]), sample_of(0, num_tries=2)).item() == 0


def test_an_accidental_hit_is_left_out_of_its_row_only() -> None:
    softmax, hidden, target = build(9), torch.randn(2, 4, dtype=torch.float64), torch.tensor([3, 5])
    both = softmax.loss_for_sample(hidden, target, sample_of(8, 3, 1, num_tries=4))
    row_0 = softmax.loss_for_sample(hidden[:1], target[:1], sample_of(8, 1, num_tries=4))
    row_1 = softmax.loss_for_sample(hidden[1:], target[1:], sample_of(8, 3, 1, num_tries=4))
    assert_close(both, (row_0 + row_1) / 2, rtol=1e-9, atol=1e-9)


def test_a_sample_of_every_class_gives_the_full_softmax() -> None:
    """With every class found for certain (Q = 1), nothing is left to correct."""
    softmax, hidden, target = build(20), torch.randn(6, 4, dtype=torch.float64), torch.randint(20, (6,))
    everything = sample_of(*range(20), num_tries=100_000)
    loss = softmax.loss_for_sample(hidden, target, everything)
    logits = hidden @ softmax.weight.t() + softmax.bias
    assert_close(loss, -logits.log_softmax(dim=1)[range(6), target].mean(), rtol=1e-9, atol=1e-9)


def test_corrected_logits_estimate_the_full_normaliser() -> None:
    """Importance sampling: the mean of Σ exp(logit - log Q) over samples is the sum over the whole vocabulary."""
    softmax = build(200, num_sampled=60)
    logits = (torch.randn(4, dtype=torch.float64) @ softmax.weight.t() + softmax.bias).detach()
    estimates = []
    for _ in range(1000):
        sample = softmax.sampler.sample(logits.device)
        log_q = softmax.sampler.expected_count(sample.classes, sample.num_tries).log()
        estimates.append((logits[sample.classes] - log_q).exp().sum())
    estimate, exact = torch.stack(estimates), logits.exp().sum()
    assert estimate.std() / exact / 1000**0.5 < 0.015  # the standard error of the mean
    assert_close(estimate.mean(), exact, rtol=0.05, atol=0)


def test_sampled_loss_draws_from_the_generator() -> None:
    softmax, hidden = build(50, num_sampled=10), torch.randn(6, 4, dtype=torch.float64)
    target = torch.randint(50, (6,))
    torch.manual_seed(1)
    losses = [softmax.sampled_loss(hidden, target) for _ in range(2)]
    torch.manual_seed(1)
    sample = softmax.sampler.sample(hidden.device)
    assert torch.equal(losses[0], softmax.loss_for_sample(hidden, target, sample))
    assert not torch.equal(losses[0], losses[1])


def train_softmax(logits_at_once: int) -> None:
    """A step on 8,192 tokens and 4,096 sampled classes: 134 MB of logits."""
    torch.set_num_threads(1)
    softmax = VocabularySoftmax(10_000, 16, 4096)
    with patch("outrageous.models.sampled_loss.LOGITS_ON_CPU", logits_at_once):
        softmax.sampled_loss(torch.randn(8192, 16, requires_grad=True), torch.randint(10_000, (8192,))).backward()


@pytest.mark.slow
def test_chunks_take_less_memory() -> None:
    whole, in_chunks = (peak_memory(train_softmax, number) for number in (2**25, 2**20))
    assert whole - in_chunks > 1.5 * 0.134e9  # there are two of them at a time, or their probabilities


@pytest.mark.parametrize("tokens_per_chunk", [1, 3, 7, 1024])
def test_full_softmax_in_chunks(tokens_per_chunk: int) -> None:
    softmax, hidden, target = build(11).float(), torch.randn(7, 4, requires_grad=True), torch.randint(11, (7,))
    nll = softmax.negative_log_likelihood(hidden, target, tokens_per_chunk)
    logits = hidden @ softmax.weight.t() + softmax.bias
    assert_close(nll, -logits.log_softmax(dim=1)[range(7), target].detach())
    assert nll.dtype == torch.float32
    assert not nll.requires_grad


def test_perplexity_of_a_uniform_model_is_the_size_of_the_vocabulary() -> None:
    softmax = VocabularySoftmax(num_classes=793, d_model=4, num_sampled=8)
    torch.nn.init.zeros_(softmax.weight)
    nll = softmax.negative_log_likelihood(torch.randn(20, 4), torch.randint(793, (20,)))
    assert math.exp(nll.double().mean().item()) == pytest.approx(793, rel=1e-5)


def test_number_of_samples_must_fit_the_vocabulary() -> None:
    with pytest.raises(ValueError, match="num_sampled=10"):
        VocabularySoftmax(num_classes=10, d_model=4, num_sampled=10)
