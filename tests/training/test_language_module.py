"""One batch in training and in evaluation: losses, clipping, learning rate, random draws, perplexity."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from outrageous.config import RunConfig
from outrageous.data.batching import Batch
from outrageous.data.corpus import Corpus
from outrageous.errors import UserError
from outrageous.moe import FeedForwardExperts, balancing_loss
from outrageous.moe.device import as_on_gpu
from outrageous.optim.combined import CombinedOptimizer
from outrageous.training.data_module import SentenceDataModule
from outrageous.training.language_module import LanguageModule
from outrageous.training.run import dev_and_test

Build = Callable[..., LanguageModule]


@pytest.fixture
def build(settings: Callable[..., RunConfig], corpus: Corpus) -> Build:
    """A function from overrides to the module that they describe."""
    return lambda *overrides: LanguageModule(settings(Path("runs"), *overrides), len(corpus.vocabulary), origin={})


@pytest.fixture
def data(settings: Callable[..., RunConfig], corpus: Corpus) -> SentenceDataModule:
    return SentenceDataModule(corpus, settings(Path("runs"), "trainer.eval_words_per_batch=100").trainer, seed=0)


@pytest.fixture
def batch(data: SentenceDataModule) -> Batch:
    first: Batch = next(iter(data.train_dataloader()))
    return first.to("cpu")


@pytest.fixture
def trainer(tmp_path: Path) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_a_step_begins_without_the_gradients_of_the_step_before(build: Build, batch: Batch) -> None:
    module = build()
    module.training_step(batch, 0)["loss"].backward()
    assert any(weight.grad is not None for weight in module.parameters())
    module.on_train_batch_start(batch, 1)
    assert all(weight.grad is None for weight in module.parameters())


def test_a_process_without_a_sentence_has_no_word_loss(build: Build, batch: Batch) -> None:
    module, padding = build(), batch.padding_only()
    loss = module.sum_of_word_losses(module.hidden(padding)[0], padding.predicted)
    loss.backward()
    assert loss == 0
    assert not any(weight.grad.any() for weight in module.parameters() if weight.grad is not None)


def test_initial_weights_depend_on_the_seed_alone(build: Build) -> None:
    first = build().state_dict()
    torch.rand(5)
    again, other = build().state_dict(), build("seed=1").state_dict()
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    assert not torch.equal(other["model.embedding.weight"], first["model.embedding.weight"])


def test_the_loss_is_of_words_and_balance(build: Build, batch: Batch) -> None:
    module = build("model.moe.num_experts=8", "balance.w_importance=0.5", "balance.w_load=0.25")
    torch.manual_seed(1)
    step = module.training_step(batch, 0)
    torch.manual_seed(1)
    hidden, [report] = module.model(batch.inputs, batch.mask)
    word_loss = module.model.softmax.sampled_loss(hidden, batch.targets[batch.mask])
    assert step["word_loss"] == word_loss
    assert step["balance_loss"] == balancing_loss(report, 0.5, 0.25) > 0
    assert step["loss"] == step["word_loss"] + step["balance_loss"]
    assert step["loss"].requires_grad
    assert not step["word_loss"].requires_grad
    assert [counts.sum() for counts in step["tokens_per_expert"]] == [4 * batch.num_tokens]
    assert step["utilisation"][0].keys() == {"cv_importance", "cv_load", "max_over_mean_load"}


def test_thresholds_of_strictly_balanced_gates_are_trained_and_used_in_evaluation(build: Build, batch: Batch) -> None:
    module = build("gate=strictly_balanced", "model.moe.num_experts=8")
    step = module.training_step(batch, 0)
    step["loss"].backward()
    [log_threshold] = [weight for name, weight in module.named_parameters() if name.endswith("log_threshold")]
    assert log_threshold.grad is not None
    assert log_threshold.grad.ne(0).all()
    assert step["tokens_per_expert"][0].tolist() == [math.ceil(4 * batch.num_tokens / 8)] * 8
    module.eval().on_validation_epoch_start()
    assert module.validation_step(batch, 0)["tokens_per_expert"][0].tolist() == [0] * 8  # all gates equal thresholds
    with torch.no_grad():
        log_threshold[:3] -= 1
    assert module.validation_step(batch, 0)["tokens_per_expert"][0].tolist() == [batch.num_tokens] * 3 + [0] * 5


def test_a_model_without_an_moe_has_no_balance_to_keep(build: Build, batch: Batch) -> None:
    step = build("experiment=lm/4xlstm_512").training_step(batch, 0)
    assert step["balance_loss"] == 0
    assert step["loss"] == step["word_loss"]
    assert step["utilisation"] == step["tokens_per_expert"] == []


def test_a_step_draws_from_seed_and_step_alone(build: Build, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [build(f"seed={seed}") for seed in (0, 1, 2)]

    def draws(seed: int, step: int) -> tuple[float, ...]:
        monkeypatch.setattr(LanguageModule, "global_step", step)
        torch.rand(3)  # whatever was drawn before
        modules[seed].on_train_batch_start(batch, 0)
        return tuple(torch.rand(4).tolist())

    steps = [(seed, step) for seed in (0, 1, 2) for step in (0, 1, 2, 10**6)]
    first = [draws(*each) for each in steps]
    assert [draws(*each) for each in steps] == first
    assert len(set(first)) == len(steps)


def with_gradient(module: LanguageModule, *values: float) -> torch.Tensor:
    """A gradient of zeros but for these, spread over the parameters."""
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for parameter, value in zip(module.parameters(), values, strict=False):
        assert parameter.grad is not None
        parameter.grad.view(-1)[0] = value
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return torch.stack([gradient.view(-1)[0] for gradient in gradients[: len(values)]])


@pytest.mark.parametrize(
    ("max_grad_norm", "expected"),
    [(1.0, [0.6, 0.8]), (2.5, [1.5, 2.0]), (5.1, [3.0, 4.0])],  # the norm of all parameters together is 5
)
def test_gradients_are_scaled_down_to_the_given_norm(build: Build, max_grad_norm: float, expected: list[float]) -> None:
    module = build(f"optim.max_grad_norm={max_grad_norm}")
    with_gradient(module, 3.0, 4.0)
    adam = module.configure_optimizers()["optimizer"]
    module.configure_gradient_clipping(adam)
    clipped = [p.grad.view(-1)[0].item() for p in list(module.parameters())[:2] if p.grad is not None]
    assert clipped == pytest.approx(expected, rel=1e-5)
    assert module.grad_norm == pytest.approx(5.0)


def test_without_a_limit_gradients_stay_as_they_are(build: Build) -> None:
    module = build("optim.max_grad_norm=null")
    with_gradient(module, 30.0, 40.0)
    module.configure_gradient_clipping(module.configure_optimizers()["optimizer"])
    assert [p.grad.view(-1)[0].item() for p in list(module.parameters())[:2] if p.grad is not None] == [30, 40]
    assert module.grad_norm == pytest.approx(50)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_refused(build: Build, value: float) -> None:
    module = build("optim.learning_rate=0.01", "schedule.warmup_steps=10")
    with_gradient(module, value)
    adam = module.configure_optimizers()["optimizer"]
    with pytest.raises(UserError, match=rf"the gradient's norm is {value} at step 1, with learning rate 0\.001;"):
        module.configure_gradient_clipping(adam)


def test_on_a_gpu_a_gradient_is_looked_at_a_step_later_and_never_waited_for(build: Build) -> None:
    module = build("optim.learning_rate=0.01", "schedule.warmup_steps=10")
    adam = module.configure_optimizers()["optimizer"]
    with as_on_gpu():
        with_gradient(module, 3.0, 4.0)
        module.configure_gradient_clipping(adam)
        assert math.isnan(module.grad_norm)
        with_gradient(module, math.nan)
        module.configure_gradient_clipping(adam)
        assert module.grad_norm == pytest.approx(5)
        with_gradient(module, 1.0)
        with pytest.raises(UserError, match=r"norm is nan at step 1, .* nothing was saved since\. Lower optim"):
            module.configure_gradient_clipping(adam)


def test_the_learning_rate_rises_to_its_peak_and_falls_with_the_root_of_the_step(build: Build) -> None:
    module = build("optim.learning_rate=0.1", "schedule.warmup_steps=4")
    configured = module.configure_optimizers()
    adam, schedule = configured["optimizer"], configured["lr_scheduler"]
    assert isinstance(schedule, dict)
    assert schedule["interval"] == "step"
    rates = []
    for _ in range(16):
        rates.append(adam.param_groups[0]["lr"])
        adam.step()
        schedule["scheduler"].step()
    # Steps 1 to 4: 1/4, 2/4, 3/4, 4/4 of 0.1; step 9: √(4/9); step 16: √(4/16).
    assert [rates[step - 1] for step in (1, 2, 3, 4, 9, 16)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.2 / 3, 0.05])


def test_adam_takes_its_settings(build: Build) -> None:
    module = build("optim.beta1=0.5", "optim.beta2=0.75", "optim.epsilon=1e-3")
    adam = module.configure_optimizers()["optimizer"]
    assert adam.defaults["betas"] == (0.5, 0.75)
    assert adam.defaults["eps"] == 1e-3
    assert sum(p.numel() for group in adam.param_groups for p in group["params"]) == sum(
        p.numel() for p in module.parameters()
    )


def test_experts_take_their_optimizer_from_the_settings(build: Build) -> None:
    module = build("optim=factored_adam")
    optimizer = module.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, CombinedOptimizer)
    assert {p.shape for p in optimizer.parts[1].param_groups[0]["params"]} == {(4, 32, 16), (4, 16, 32)}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.parameters()))


def test_recomputation_is_a_setting(build: Build) -> None:
    recompute = [m.recompute for m in build("model.moe.recompute=true").modules() if isinstance(m, FeedForwardExperts)]
    assert recompute == [True]
    assert not any(m.recompute for m in build().modules() if isinstance(m, FeedForwardExperts))


@pytest.mark.parametrize(("num_devices", "device"), [(2, "cpu"), (1, "cuda")])
def test_updates_without_gradients_are_refused_on_several_devices_and_on_a_gpu(
    build: Build, monkeypatch: pytest.MonkeyPatch, num_devices: int, device: str
) -> None:
    monkeypatch.setattr(LanguageModule, "trainer", SimpleNamespace(world_size=num_devices))
    monkeypatch.setattr(LanguageModule, "device", torch.device(device))
    build("optim=factored_adam").on_fit_start()
    with pytest.raises(UserError, match=rf"optim\.experts=gradient_free on {num_devices} {device}"):
        build("optim=gradient_free").on_fit_start()


def perplexity_one_by_one(module: LanguageModule, loader: DataLoader[Batch]) -> float:
    """The slow twin: every sentence alone, without padding, over the full softmax, summed in double precision."""
    module.eval()
    total, count = 0.0, 0
    for batch in loader:
        for inputs, targets, mask in zip(batch.inputs, batch.targets, batch.mask, strict=True):
            length = int(mask.sum())
            with torch.no_grad():
                hidden, _ = module.model(inputs[None, :length].long(), mask[None, :length])
                logits = F.linear(hidden, module.model.softmax.weight, module.model.softmax.bias).double()
            total -= logits.log_softmax(dim=1)[torch.arange(length), targets[:length]].sum().item()
            count += length
    return math.exp(total / count)


def test_perplexity_is_per_predicted_token_of_the_whole_part(
    build: Build, data: SentenceDataModule, trainer: pl.Trainer
) -> None:
    module = build("model.dropout=0.5")  # must not show in evaluation
    metrics = dev_and_test(trainer, module, data)
    assert metrics["dev_perplexity"] == pytest.approx(perplexity_one_by_one(module, data.val_dataloader()), rel=1e-4)
    assert metrics["test_perplexity"] == pytest.approx(perplexity_one_by_one(module, data.test_dataloader()), rel=1e-4)
    assert metrics["dev_perplexity"] != metrics["test_perplexity"]


@pytest.mark.parametrize("change", [lambda batches: batches[1:], lambda batches: [*batches, batches[0]]])
def test_a_loader_that_drops_or_repeats_a_batch_is_caught(
    build: Build, data: SentenceDataModule, trainer: pl.Trainer, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = list(data.val_dataloader())
    assert len(batches) > 1
    monkeypatch.setattr(data, "val_dataloader", lambda: DataLoader(change(batches), batch_size=None))
    with pytest.raises(AssertionError, match=r"dev: evaluated \d+ tokens of \d+"):
        trainer.validate(build(), datamodule=data, verbose=False)


def test_a_perplexity_that_is_not_finite_is_refused(
    build: Build, data: SentenceDataModule, trainer: pl.Trainer
) -> None:
    module = build()
    with torch.no_grad():
        module.model.softmax.bias.fill_(math.nan)
    with pytest.raises(UserError, match="the test perplexity is nan after step 0"):
        trainer.test(module, datamodule=data, verbose=False)
