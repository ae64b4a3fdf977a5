"""What is measured and shown while a model trains, on a clock of our own."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn

from outrageous.results.records import CurvePoint
from outrageous.training import callbacks
from outrageous.training.callbacks import RECENT_BATCHES, Meter, RunProgress, ValidationAtTheEnd


class Clock:
    """Stands in for the module `time`; both of its clocks show `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter


class Logger:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(callbacks, "time", clock)
    return clock


@pytest.fixture
def trainer() -> Any:
    return SimpleNamespace(
        global_step=0,
        logger=Logger(),
        callback_metrics={},
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        estimated_stepping_batches=6,
        should_stop=False,
        is_global_zero=True,
    )


MODULE: Any = SimpleNamespace(grad_norm=0.5, learning_rate=0.25)


def outputs(*utilisations: dict[str, float], num_words: int = 1) -> dict[str, Any]:
    """Of a training step, with the utilisation of each MoE layer."""
    return {
        "word_loss": torch.tensor(3.0),
        "balance_loss": torch.tensor(0.125),
        "num_words": num_words,
        "utilisation": [{name: torch.tensor(value) for name, value in layer.items()} for layer in utilisations],
    }


def train_one(meter: Meter, clock: Clock, trainer: Any, seconds: float, words: int, **utilisation: float) -> None:
    """One step of so many seconds, as Lightning calls the hooks."""
    batch: Any = SimpleNamespace()
    meter.on_train_batch_start(trainer, MODULE, batch, 0)
    clock.now += seconds
    trainer.global_step += 1
    meter.on_train_batch_end(
        trainer, MODULE, outputs(*([utilisation] if utilisation else []), num_words=words), batch, 0
    )


def validate(meter: Meter, clock: Clock, trainer: Any, seconds: float, dev_perplexity: float) -> None:
    meter.on_validation_start(trainer, MODULE)
    clock.now += seconds
    trainer.callback_metrics["dev_perplexity"] = torch.tensor(dev_perplexity)
    meter.on_validation_end(trainer, MODULE)


def test_words_per_second_counts_the_time_between_steps_but_not_validation(clock: Clock, trainer: Any) -> None:
    meter = Meter(log_every=100, flops_per_word=1)
    assert meter.words_per_second == 0.0
    train_one(meter, clock, trainer, seconds=2, words=10)
    clock.now += 1  # the next batch is read
    train_one(meter, clock, trainer, seconds=2, words=20)
    assert (meter.words, meter.seconds, meter.words_per_second) == (30, 5.0, 6.0)
    validate(meter, clock, trainer, seconds=50, dev_perplexity=9.0)
    clock.now += 50  # checkpoints are written
    train_one(meter, clock, trainer, seconds=1, words=6)
    assert (meter.words, meter.seconds, meter.words_per_second) == (36, 6.0, 6.0)


def test_each_validation_is_a_point_of_the_curve(clock: Clock, trainer: Any) -> None:
    meter = Meter(log_every=100, flops_per_word=1)
    train_one(meter, clock, trainer, seconds=1, words=10)
    validate(meter, clock, trainer, seconds=1, dev_perplexity=9.0)
    train_one(meter, clock, trainer, seconds=1, words=10)
    validate(meter, clock, trainer, seconds=1, dev_perplexity=8.0)
    trainer.state.fn = TrainerFn.VALIDATING
    validate(meter, clock, trainer, seconds=1, dev_perplexity=7.0)  # of the best weights, after training
    assert meter.curve == [CurvePoint(1, 10, 9.0), CurvePoint(2, 20, 8.0)]
    assert trainer.logger.rows == [(1, {"dev/perplexity": 9.0, "words": 10}), (2, {"dev/perplexity": 8.0, "words": 20})]


def test_every_few_steps_a_row_goes_to_the_log(clock: Clock, trainer: Any) -> None:
    meter = Meter(log_every=2, flops_per_word=3 * 10**12)
    for _ in range(5):
        train_one(meter, clock, trainer, seconds=2, words=10, cv_load=0.5)
    assert [at for at, _ in trainer.logger.rows] == [2, 4]
    assert trainer.logger.rows[0][1] == {
        "train/word_loss": 3.0,
        "train/balance_loss": 0.125,
        "train/grad_norm": 0.5,
        "train/learning_rate": 0.25,
        "speed/words_per_second": 5.0,
        "speed/tflops": 15.0,
        "words": 20,
        "experts/cv_load": 0.5,
    }


def test_without_a_logger_nothing_is_logged(clock: Clock, trainer: Any) -> None:
    trainer.logger = None
    meter = Meter(log_every=1, flops_per_word=1)
    train_one(meter, clock, trainer, seconds=2, words=10)
    validate(meter, clock, trainer, seconds=1, dev_perplexity=9.0)
    assert meter.words == 10


def test_utilisation_in_the_test_is_the_mean_over_its_batches_and_over_layers(trainer: Any) -> None:
    meter = Meter(log_every=100, flops_per_word=1)
    assert meter.test_utilisation() == {}
    for num_words, cv_loads in [(10, (1.0, 2.0)), (5, (3.0, 4.0))]:
        step = outputs(*({"cv_load": cv, "max_over_mean_load": 2 * cv} for cv in cv_loads))
        step["tokens_per_expert"] = [torch.tensor([10, 15]), torch.tensor([0, 5])]
        step["tokens_of_moes"] = [num_words, 2 * num_words]
        meter.on_test_batch_end(trainer, MODULE, step, SimpleNamespace(), 0)  # type: ignore[arg-type]
    # experts per token: 25 assignments of 10 words and 5 of 20, then of 5 words and of 10
    expected = {
        "test_cv_load": 2.5,
        "test_max_over_mean_load": 5.0,
        "test_experts_per_token": ((2.5 + 0.25) / 2 + (5 + 0.5) / 2) / 2,
    }
    assert meter.test_utilisation() == expected
    assert meter.utilisation() == {}


def test_utilisation_is_the_mean_over_recent_batches_and_over_layers(clock: Clock, trainer: Any) -> None:
    meter = Meter(log_every=100, flops_per_word=1)
    assert meter.utilisation() == {}
    for batch in range(RECENT_BATCHES + 5):
        train_one(meter, clock, trainer, seconds=1, words=1, cv_load=float(batch))
    assert meter.utilisation() == {"cv_load": (5 + RECENT_BATCHES + 4) / 2}  # batches 5 to 24

    layers = Meter(log_every=100, flops_per_word=1)
    two: Any = outputs({"cv_load": 1.0}, {"cv_load": 4.0})
    layers.on_train_batch_end(trainer, MODULE, two, SimpleNamespace(), 0)  # type: ignore[arg-type]
    assert layers.utilisation() == {"cv_load": 2.5}


def test_the_meter_of_a_resumed_run_covers_the_whole_run(clock: Clock, trainer: Any) -> None:
    first = Meter(log_every=100, flops_per_word=1)
    train_one(first, clock, trainer, seconds=4, words=10, cv_load=1.0)
    validate(first, clock, trainer, seconds=3, dev_perplexity=9.0)
    state = json.loads(json.dumps(first.state_dict()))  # nothing but plain values
    clock.now += 10_000  # the run lay idle

    second = Meter(log_every=100, flops_per_word=1)
    second.load_state_dict(state)
    train_one(second, clock, trainer, seconds=6, words=20, cv_load=2.0)
    validate(second, clock, trainer, seconds=3, dev_perplexity=8.0)
    assert (second.words, second.seconds, second.words_per_second) == (30, 10.0, 3.0)
    assert second.wall_seconds == 4 + 3 + 6 + 3
    assert second.curve == [CurvePoint(1, 10, 9.0), CurvePoint(2, 30, 8.0)]
    assert second.utilisation() == {"cv_load": 1.5}


def test_asks_for_a_validation_after_the_last_step_and_not_before(trainer: Any) -> None:
    callback = ValidationAtTheEnd()
    callback.on_train_start(trainer, MODULE)
    stops = []
    for trainer.global_step in range(1, 7):
        callback.on_train_batch_end(trainer)
        stops.append(trainer.should_stop)
    assert stops == [False] * 5 + [True]


def test_a_run_that_goes_on_from_its_end_stops_at_once(trainer: Any) -> None:
    trainer.global_step = 6
    ValidationAtTheEnd().on_train_start(trainer, MODULE)
    assert trainer.should_stop


@pytest.fixture
def progress(clock: Clock, tmp_path: Path) -> RunProgress:
    return RunProgress(Meter(log_every=100, flops_per_word=1), tmp_path / "progress.json", "lm/moe_4 seed 0")


def shown(progress: RunProgress) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(progress.file.read_text())
    return status


def test_progress_is_written_at_most_once_a_second_and_after_each_validation(
    progress: RunProgress, clock: Clock, trainer: Any, tmp_path: Path
) -> None:
    progress.on_train_start(trainer, MODULE)
    for seconds in (2.0, 0.5, 0.25):
        train_one(progress.meter, clock, trainer, seconds=seconds, words=10)
        progress.on_train_batch_end(trainer)
    assert shown(progress) == {"step": 1, "num_steps": 6, "words_per_second": 5.0, "dev_perplexity": None}
    train_one(progress.meter, clock, trainer, seconds=1.25, words=10)
    progress.on_train_batch_end(trainer)
    assert shown(progress) == {"step": 4, "num_steps": 6, "words_per_second": 10.0, "dev_perplexity": None}
    validate(progress.meter, clock, trainer, seconds=0.5, dev_perplexity=9.0)
    progress.on_validation_end(trainer, MODULE)
    assert shown(progress)["dev_perplexity"] == 9.0
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_the_bar_goes_on_from_the_resumed_step(
    progress: RunProgress, clock: Clock, trainer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.global_step = 3
    progress.on_train_start(trainer, MODULE)
    train_one(progress.meter, clock, trainer, seconds=2, words=10)
    progress.on_train_batch_end(trainer)
    validate(progress.meter, clock, trainer, seconds=2, dev_perplexity=9.0)
    progress.on_validation_end(trainer, MODULE)
    progress.on_train_end(trainer, MODULE)
    bar = capsys.readouterr().err
    assert "lm/moe_4 seed 0:  50%" in bar
    assert "4/6" in bar
    assert "5 words/s, dev perplexity 9.00" in bar


def test_the_bar_closes_when_training_breaks_off(progress: RunProgress, trainer: Any) -> None:
    progress.on_train_start(trainer, MODULE)
    progress.on_exception(trainer, MODULE, ValueError())
    progress.on_validation_end(trainer, MODULE)  # of another call: there is no bar to show it on
    assert not progress.file.exists()
