"""Predicted memory: against the same step on tensors that have numbers, against a process, and by hand; and that a step
on a GPU asks it for no number."""

import sys
from contextlib import ExitStack

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from outrageous.commands.compose import any_config
from outrageous.config import AnyRunConfig
from outrageous.errors import UserError
from outrageous.moe import FeedForwardExperts
from outrageous.moe.device import as_on_gpu
from outrageous.moe.part import at_hand
from outrageous.moe.routing import MoEReport, Routing
from outrageous.optim.factored_adam import FactoredAdam
from outrageous.training.benchmark import Stepper
from outrageous.training.fit_benchmark import measure_fit
from outrageous.training.imagined import GpuPart, ImaginedPart, imagine_lstms
from outrageous.training.language_module import LanguageModule
from outrageous.training.memory_tally import Tally
from outrageous.training.predicted_memory import batch_of, peak_of_step, predict_memory
from outrageous.training.tasks import build_module

SMALL = {
    "dense": ["experiment=lm/lstm_2048_512"],
    "flat": ["experiment=lm/moe_32", "model.dropout=0.1"],
    "recomputed": ["experiment=lm/moe_32", "savings=appendix_d"],
    "hierarchy": ["experiment=lm/moe_256_h"],
    "balanced": ["experiment=lm/moe_32", "gate=strictly_balanced"],
    "translation": ["experiment=mt/moe_32", "model.dropout=0.1"],
    "balanced hierarchy": ["experiment=mt/moe_512_h", "model.moe.num_experts=32", "model.moe.num_groups=4"],
}
VOCABULARY = 500


def small(name: str, *overrides: str) -> AnyRunConfig:
    return any_config([*SMALL[name], "scale=smoke", "trainer=gpu", "trainer.words_per_batch=2600", *overrides])


def peak_of_real_step(config: AnyRunConfig) -> int:
    """As `predict_memory`, but with numbers; bytes of weights, gradients and activations."""
    with ExitStack() as stack:
        stack.enter_context(as_on_gpu())
        stack.enter_context(at_hand(GpuPart()))
        tally = stack.enter_context(Tally())
        module = build_module(config, VOCABULARY, origin={})
        imagine_lstms(module)
        batch = batch_of(config, config.trainer.words_per_batch)
        return peak_of_step(module, batch, config.trainer.precision == "bf16-mixed", tally)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", SMALL)
def test_a_step_with_numbers_takes_what_is_predicted(name: str, precision: str) -> None:
    config = small(name, f"trainer.precision={precision}")
    predicted = predict_memory(config, VOCABULARY)
    assert peak_of_real_step(config) == pytest.approx(predicted.peak - predicted.optimizer, rel=0.02)


def test_what_is_predicted_is_less_in_bfloat16_and_with_savings() -> None:
    in_float32, in_bfloat16 = (
        predict_memory(small("flat", f"trainer.precision={each}"), VOCABULARY) for each in ("32-true", "bf16-mixed")
    )
    saving = predict_memory(small("flat", "savings=appendix_d"), VOCABULARY)
    assert in_float32.weights == in_bfloat16.weights == saving.weights  # of which copies are made
    assert saving.peak < in_bfloat16.peak < in_float32.peak
    # 32 experts of two matrices 16·32: two moments, against 16 + 32 means of a matrix.
    assert in_bfloat16.optimizer - saving.optimizer == 32 * 2 * (2 * 16 * 32 - (16 + 32)) * 4


@pytest.mark.parametrize("optimizer", ["adam", "factored_adam"])
def test_weights_and_optimizer_are_those_of_a_model_that_was_trained(optimizer: str) -> None:
    config = small("hierarchy", f"optim={optimizer}")
    module = build_module(config, VOCABULARY, origin={})
    trained = module.configure_optimizers()["optimizer"]
    module.training_step(batch_of(config, 52), 0)["loss"].backward()
    trained.step()
    state = [value for of_weight in trained.state.values() for key, value in of_weight.items() if key != "step"]
    predicted = predict_memory(config, VOCABULARY)
    assert predicted.weights == predicted.gradients == _bytes(list(module.parameters()))
    assert predicted.optimizer == _bytes(state)


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize(
    ("name", "num_devices", "share"),
    [
        ("flat", 8, 4 / 32),
        ("flat", 5, 7 / 32),  # 32 experts on five devices: the fullest has seven
        ("flat", 64, 1 / 32),
        ("hierarchy", 4, 4 / 16),  # whole groups
        ("hierarchy", 32, 1 / 16),
    ],
)
def test_experts_are_shared_out_and_all_else_is_on_every_device(name: str, num_devices: int, share: float) -> None:
    config = small(name)
    module = build_module(config, VOCABULARY, origin={})
    assert isinstance(module, LanguageModule)
    experts = _bytes(list(module.model.layers[1].get_submodule("experts").parameters()))
    alone, one_of_many = predict_memory(config, VOCABULARY), predict_memory(config, VOCABULARY, num_devices)
    assert one_of_many.weights == one_of_many.gradients == alone.weights - experts + share * experts
    assert one_of_many.optimizer == 2 * one_of_many.weights
    assert one_of_many.peak < alone.peak


@pytest.mark.parametrize("name", [name for name in SMALL if name != "balanced hierarchy"])
def test_a_whole_step_asks_a_gpu_for_no_number(name: str) -> None:
    """Forward, backward, clipping and update; fake tensors have none to give."""
    config = small(name, "optim.experts=adam")
    with FakeTensorMode(), as_on_gpu():
        module = build_module(config, VOCABULARY, origin={})
        imagine_lstms(module)
        optimizer = module.configure_optimizers()["optimizer"]
        with torch.autocast("cpu", torch.bfloat16):
            outputs = module.training_step(batch_of(config, 2600), 0)
        outputs["loss"].backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
        assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.cuda
@pytest.mark.parametrize("name", [name for name in SMALL if name != "balanced hierarchy"])
def test_a_gpu_is_not_waited_for(name: str) -> None:
    stepper, batch = Stepper(small(name), VOCABULARY), batch_of(small(name), 2600).pin_memory()
    for _ in range(2):  # what happens but once
        stepper.step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepper.forward_backward(batch)
        stepper.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_that_asks_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LanguageModule, "hidden", lambda self, batch: self.model(batch.inputs, batch.mask))
    with pytest.raises(DynamicOutputShapeException):
        predict_memory(small("flat"), VOCABULARY)


def test_factored_adam_asks_a_gpu_for_no_number() -> None:
    weights = [nn.Parameter(torch.empty(*shape, device="meta")) for shape in ((4, 6, 5), (7,))]
    for weight in weights:
        weight.grad = torch.empty_like(weight)
    FactoredAdam(weights).step()


MIDDLING = ["scale=workstation", "data.max_size=20000", "trainer=gpu", "trainer.accelerator=cpu"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
@pytest.mark.parametrize(
    ("experiment", "precision"),
    [
        (["lm/moe_256"], "32-true"),
        (["lm/moe_256"], "bf16-mixed"),
        (["lm/moe_1024_h"], "32-true"),
        (["lm/moe_1024_h"], "bf16-mixed"),
        (["lm/moe_1024_h", "savings=appendix_d"], "32-true"),
        (["lm/moe_1024_h", "savings=appendix_d"], "bf16-mixed"),
    ],
)
def test_a_process_grows_by_the_predicted_memory(experiment: list[str], precision: str) -> None:
    name, *savings = experiment
    settings = [f"experiment={name}", *MIDDLING, *savings, f"trainer.precision={precision}"]
    config = any_config([*settings, "trainer.words_per_batch=20800"])
    row = measure_fit(config, 20_000, num_threads=1)
    assert row["peak"] == pytest.approx(row["predicted"], rel=0.15)


@pytest.mark.cuda
@pytest.mark.parametrize("experiment", ["lm/4xlstm_512", "lm/lstm_2048_512", "lm/moe_256", "mt/moe_32"])
def test_a_gpu_takes_the_predicted_memory(experiment: str) -> None:
    words = "trainer.words_per_batch=30000"
    row = measure_fit(any_config([f"experiment={experiment}", "scale=paper", "trainer=gpu", words]), 100_000, 1)
    assert row["peak"] == pytest.approx(row["predicted"], rel=0.15)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.lstm_units=3", "num_units=3"),
        ("optim.tables=sparse_adam", "depend on a batch's words"),
        ("optim=gradient_free", "on a CPU only"),
    ],
)
def test_what_cannot_be_predicted_is_refused(setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        predict_memory(small("flat", setting), VOCABULARY)


def test_a_tally_counts_what_is_alive_once() -> None:
    with Tally() as tally:
        a = torch.empty(100)  # 400 bytes
        view = a[10:]
        b = torch.empty(50)
        assert (tally.now, tally.peak) == (600, 600)
        del a, b
        assert tally.now == 400  # the view holds it
        del view
        assert (tally.now, tally.peak) == (0, 600)
        tally.start_again()
        assert tally.peak == 0


def test_experts_of_one_device_are_given_rows_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight devices each computes with an eighth of the experts on an eighth of the words, for each of which all
    devices together have k rows."""
    rows: list[int] = []
    forward = FeedForwardExperts.forward

    def seen(experts: FeedForwardExperts, given: Tensor, routing: Routing) -> tuple[Tensor, MoEReport]:
        rows.append(len(given))
        return forward(experts, given, routing)

    monkeypatch.setattr(FeedForwardExperts, "forward", seen)
    predict_memory(small("flat"), VOCABULARY, 8)
    assert rows == [4 * 2600 // 8]


def test_an_imagined_part_divides_evenly() -> None:
    assert ImaginedPart().counts(torch.empty(3), 8) == [3, 3, 2]
