"""A run from settings to record, and what breaks it off."""

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import wandb
from filelock import FileLock

from outrageous.config import RunConfig
from outrageous.data.batching import make_loader
from outrageous.data.corpus import Corpus
from outrageous.errors import UserError
from outrageous.results.records import Record, read_record
from outrageous.training import run as run_module
from outrageous.training.callbacks import Meter
from outrageous.training.checkpoints import KEY, load_weights, read_checkpoint
from outrageous.training.run import run, warn_of_another_cost
from outrageous.training.run_folder import RunFolder, config_hash, plain_config, run_folder

Settings = Callable[..., RunConfig]

# Lightning cannot know that the batches go on where they stopped.
pytestmark = pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable")


@pytest.fixture(scope="module")
def finished(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Record, RunFolder]:
    """A finished run: 2 epochs of 16 steps, validated after steps 10, 20, 30 and 32."""
    config = settings(tmp_path_factory.mktemp("runs"), "trainer.max_epochs=2", "trainer.validate_every=10")
    return config, *run(config, row="moe_4")


@contextmanager
def acting_in(step: int, action: Callable[[pl.LightningModule], None]) -> Iterator[None]:
    """Has `action` done at the start of that step of the runs within the block."""

    class ActInStep(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            if trainer.global_step + 1 == step:
                action(pl_module)

    build_trainer = run_module.build_trainer

    def build(config: RunConfig, folder: RunFolder, meter: Meter) -> pl.Trainer:
        trainer = build_trainer(config, folder, meter)
        trainer.callbacks.insert(0, ActInStep())  # type: ignore[attr-defined]
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "build_trainer", build)
        yield


def break_off(module: pl.LightningModule) -> None:
    raise UserError("broken off")


@pytest.fixture
def unfinished(settings: Settings, tmp_path: Path) -> tuple[RunConfig, RunFolder]:
    """A run that broke off in step 8, with a checkpoint of step 5."""
    config = settings(tmp_path, "trainer.validate_every=5")
    with acting_in(8, break_off), pytest.raises(UserError, match="broken off"):
        run(config, row=None)
    wandb.finish()  # what the end of a process does
    (last,) = tmp_path.rglob("last.ckpt")
    return config, RunFolder(last.parent)


def test_the_record_says_what_was_done(finished: tuple[RunConfig, Record, RunFolder], corpus: Corpus) -> None:
    config, record, folder = finished
    assert (record.experiment, record.row, record.scale, record.seed) == ("lm/moe_4", "moe_4", "smoke", 0)
    assert record.metrics.keys() == {
        "dev_perplexity",
        "test_perplexity",
        "cv_importance",
        "cv_load",
        "max_over_mean_load",
        "test_cv_load",
        "test_max_over_mean_load",
        "test_experts_per_token",
        "padding",
    }
    assert record.metrics["test_experts_per_token"] == 4
    places_of_batches = [
        len(batch.mask) * batch.mask.shape[1] for batch in make_loader(corpus.train, 200, shuffle=True)
    ]
    expected = 1 - corpus.train.num_predicted_tokens / sum(places_of_batches)
    assert record.metrics["padding"] == pytest.approx(expected)
    assert [point.step for point in record.curve] == [10, 20, 30, 32]
    assert record.curve[-1].words == record.words_trained == 2 * corpus.train.num_predicted_tokens
    # d 16, H 32, N = k = 4. LSTMs: 2 · 4 · 16 · (16 + 16). Experts: 4 · 2 · 16 · 32. Gate: two matrices of 16 · 4.
    assert record.ops_per_timestep == 4096 + 4096 + 128
    assert record.words_per_second > 0
    assert record.wall_seconds > 0
    assert record.config == plain_config(config)
    assert record.config_hash == folder.path.name == config_hash(config, corpus.fingerprint)
    assert record.data_fingerprint == corpus.fingerprint
    assert record.versions["torch"] == torch.__version__
    assert record.hardware.threads == 1
    assert record.hardware.accelerator is None
    assert record.when.tzinfo is not None


def test_the_record_lies_in_the_runs_folder_with_both_checkpoints_and_nothing_half_written(
    finished: tuple[RunConfig, Record, RunFolder], corpus: Corpus
) -> None:
    config, record, folder = finished
    assert folder == run_folder(config, corpus.fingerprint)
    assert read_record(folder.record) == record
    files = {path.name for path in folder.path.iterdir()}
    assert files - {"wandb", ".lock"} == {"record.json", "best.ckpt", "last.ckpt", "progress.json", "vocabulary.txt"}


def test_tests_with_the_weights_of_the_lowest_dev_perplexity(finished: tuple[RunConfig, Record, RunFolder]) -> None:
    _, record, folder = finished
    lowest = min(record.curve, key=lambda point: point.dev_perplexity)
    assert record.metrics["dev_perplexity"] == lowest.dev_perplexity
    assert read_checkpoint(folder.best_checkpoint)["global_step"] == lowest.step


def test_training_lowers_the_perplexity(finished: tuple[RunConfig, Record, RunFolder], corpus: Corpus) -> None:
    _, record, _ = finished
    perplexities = [point.dev_perplexity for point in record.curve]
    assert perplexities[-1] < perplexities[0] < len(corpus.vocabulary)


def test_the_same_settings_again_train_nothing(
    finished: tuple[RunConfig, Record, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, record, folder = finished
    monkeypatch.setattr(run_module, "build_trainer", lambda *_: pytest.fail("trains again"))
    assert run(config, row="moe_4") == (record, folder)


def test_another_seed_is_another_run(settings: Settings, tmp_path: Path) -> None:
    records = [run(settings(tmp_path, f"seed={seed}", "trainer.max_steps=3"), row=None) for seed in (0, 1)]
    (first, folder), (second, other) = records
    assert folder.path.parent.name == "seed_0"
    assert other.path.parent.name == "seed_1"
    assert first.config_hash == second.config_hash
    assert first.metrics != second.metrics


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.moe.gate.k=5"], "k=5"),
        (["model.moe.gate.k=null"], "gate.k is not set"),
        (["gate=softmax", "model.moe.gate.k=2"], "gate.k=2: the softmax gate uses every expert"),
        (["model.num_sampled=1000"], "num_sampled=1000"),
        (["model.dropout=1.5"], "dropout=1.5"),
        (["model.layers=[lstm,lstm]"], "contradict each other"),
        (["model.lstm_units=8"], "num_units=8"),
        (["seed=-1"], "seed=-1"),
        (["trainer.max_epochs=0"], r"trainer\.max_epochs=0: must be at least 1"),
        (["trainer.max_steps=0"], r"trainer\.max_steps=0: must be at least 1, or -1"),
        (["trainer.words_per_batch=0"], r"trainer\.words_per_batch=0"),
        (["trainer.eval_words_per_batch=0"], r"trainer\.eval_words_per_batch=0"),
        (["trainer.validate_every=0"], r"trainer\.validate_every=0"),
        (
            ["trainer.validate_every=1.5"],
            r"validate_every=1.5: must be at least 1 and whole, or a share of a pass below 1",
        ),
        (["trainer.validate_every=often"], r"validate_every=often: must be at least 1"),
        (["trainer.log_every=0"], r"trainer\.log_every=0"),
        (["trainer.num_threads=0"], r"trainer\.num_threads=0"),
        (["schedule.warmup_steps=0"], r"schedule\.warmup_steps=0"),
        (["optim.learning_rate=0"], r"optim\.learning_rate=0.0: must be above 0 and finite"),
        (["optim.learning_rate=inf"], r"optim\.learning_rate=inf"),
        (["optim.learning_rate=nan"], r"optim\.learning_rate=nan"),
        (["optim.experts_learning_rate=0"], r"optim\.experts_learning_rate=0.0: must be above 0 and finite, or null"),
        (["optim.beta2=1"], r"optim\.beta2=1.0: must be at least 0 and below 1"),
        (["optim.max_grad_norm=0"], r"optim\.max_grad_norm=0"),
        (["optim=gradient_free", "optim.max_grad_norm=1"], r"optim\.max_grad_norm=1.0: .*forms no gradient"),
        (["experiment=lm/4xlstm_512", "optim=gradient_free"], r"experts=gradient_free: lm/4xlstm_512 has no experts"),
        (["experiment=lm/4xlstm_512", "optim=factored_adam"], r"experts=factored_adam: .*; set optim=adam"),
        (["balance.w_load=-1"], r"balance\.w_load=-1"),
        (["trainer.accelerator=gpo"], r"trainer\.accelerator=gpo: .*invalid accelerator name"),
        (["trainer.precision=bf16-true"], r"trainer\.precision=bf16-true: must be one of 32-true, bf16-mixed"),
        (["trainer.devices=0"], r"trainer\.devices=0: must be at least 1"),
        (["trainer.devices=2"], r"trainer\.devices=2 trainer\.num_nodes=1: .* set trainer=expert_parallel"),
        (["trainer=ddp", "trainer.timeout=0"], r"trainer\.timeout=0"),
        (["trainer=ddp", "trainer.sharded_checkpoints=true"], r"only trainer=expert_parallel has shards"),
        (["trainer=ddp", "optim.tables=sparse_adam"], r"sparse_adam with trainer\.strategy=ddp"),
        (["scale.name=mine"], r"scale\.name=mine: must be one of smoke, pocket"),
    ],
)
def test_settings_that_make_no_sense_leave_nothing_behind(
    settings: Settings, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(settings(tmp_path / "runs", *overrides), row=None)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("overrides", "measured", "warned"),
    [
        (["gate=strictly_balanced"], 10.0, True),
        (["gate=strictly_balanced"], 3.7, False),  # within a tenth of 4
        (["gate=strictly_balanced"], 0.0, True),
        (["experiment=lm/moe_256_h"], 4.0, False),  # two groups, two experts of each
        (["experiment=lm/moe_256_h"], 2.0, True),
        (["experiment=lm/moe_1_wide"], 1.0, False),  # no k
    ],
)
def test_another_number_of_experts_in_the_test_is_told(
    settings: Settings,
    tmp_path: Path,
    overrides: list[str],
    measured: float,
    warned: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    warn_of_another_cost(settings(tmp_path, *overrides), {"test_experts_per_token": measured})
    assert (f"a word had {measured:.2f} experts on average" in capsys.readouterr().err) is warned


def test_a_second_process_on_the_same_run_is_turned_away(unfinished: tuple[RunConfig, RunFolder]) -> None:
    config, folder = unfinished
    with FileLock(folder.path / ".lock"), pytest.raises(UserError, match="another process is training this run in"):
        run(config, row=None)
    run(config, row=None)


def test_a_runs_folder_that_cannot_be_written(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file/runs.*: Not a directory.*paths\.runs"):
        run(settings(tmp_path / "file" / "runs"), row=None)


def test_weights_that_a_step_has_blown_up_reach_no_checkpoint(settings: Settings, tmp_path: Path) -> None:
    config = settings(tmp_path, "optim.learning_rate=1e30", "trainer.validate_every=1")
    with pytest.raises(UserError, match=r"the dev perplexity is nan after step 1: lower optim.learning_rate=1e\+30"):
        run(config, row=None)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_nan_before_the_first_checkpoint(settings: Settings, tmp_path: Path) -> None:
    config = settings(tmp_path, "optim.learning_rate=1e30", "schedule.warmup_steps=1")
    with pytest.raises(UserError, match=r"norm is nan at step 2, with learning rate 7.07e\+29; nothing") as caught:
        run(config, row=None)
    assert caught.value.__notes__ == ["no checkpoint was saved yet; the same command starts anew"]


def poison(module: pl.LightningModule) -> None:
    with torch.no_grad():
        next(module.parameters()).fill_(math.nan)


def test_a_nan_stops_with_step_learning_rate_and_last_good_checkpoint(settings: Settings, tmp_path: Path) -> None:
    config = settings(tmp_path, "trainer.validate_every=5", "optim.learning_rate=0.01", "schedule.warmup_steps=16")
    with (
        acting_in(8, poison),
        pytest.raises(UserError, match=r"norm is nan at step 8, with learning rate 0\.005;") as caught,
    ):
        run(config, row=None)
    (last,) = tmp_path.rglob("last.ckpt")
    assert caught.value.__notes__ == [f"the same command goes on from step 5, saved in {last}"]
    checkpoint = read_checkpoint(last)
    assert checkpoint["global_step"] == 5
    assert all(weight.isfinite().all() for weight in checkpoint["state_dict"].values())
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_keeps_the_last_good_checkpoint(settings: Settings, tmp_path: Path) -> None:
    config = settings(tmp_path, "trainer.validate_every=5")

    def fill_the_disk(module: pl.LightningModule) -> None:
        """For last.ckpt of step 10."""
        next(tmp_path.rglob("last.ckpt")).with_suffix(".part").symlink_to("/dev/full")

    with acting_in(8, fill_the_disk), pytest.raises(UserError, match="No space left on device") as caught:
        run(config, row=None)
    wandb.finish()
    (last,) = tmp_path.rglob("last.ckpt")
    assert caught.value.__notes__ == [f"the same command goes on from step 5, saved in {last}"]
    assert read_checkpoint(last)["global_step"] == 5
    assert not list(tmp_path.rglob("*.part"))
    record, _ = run(config, row=None)
    assert [point.step for point in record.curve] == [5, 10, 15, 16]


def test_a_truncated_last_checkpoint_is_named(unfinished: tuple[RunConfig, RunFolder]) -> None:
    config, folder = unfinished
    whole = folder.last_checkpoint.read_bytes()
    folder.last_checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"last\.ckpt is damaged or no checkpoint .*delete it"):
        run(config, row=None)
    folder.last_checkpoint.unlink()
    record, _ = run(config, row=None)
    assert record.curve[0].step == 5


def test_a_truncated_best_checkpoint_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after training: when the run is given again only testing is left."""
    config = settings(tmp_path)

    def cut_and_load(module: Any, path: Path, corpus: Corpus) -> None:
        path.write_bytes(path.read_bytes()[:1000])
        load_weights(module, path, corpus)

    monkeypatch.setattr(run_module, "load_weights", cut_and_load)
    with pytest.raises(UserError, match=r"best\.ckpt is damaged or no checkpoint"):
        run(config, row=None)
    assert not list(tmp_path.rglob("record.json"))


def test_a_checkpoint_of_other_settings_is_refused(
    settings: Settings, unfinished: tuple[RunConfig, RunFolder], corpus: Corpus
) -> None:
    config, folder = unfinished
    other = dataclasses.replace(config, optim=dataclasses.replace(config.optim, learning_rate=0.5))
    other_folder = run_folder(other, corpus.fingerprint)
    other_folder.path.mkdir(parents=True)
    shutil.copy(folder.last_checkpoint, other_folder.last_checkpoint)
    with pytest.raises(UserError, match="comes from a run with other settings"):
        run(other, row=None)


def test_a_checkpoint_of_another_vocabulary_is_refused(unfinished: tuple[RunConfig, RunFolder]) -> None:
    """As after an update of the tokeniser: the same text, other words."""
    config, folder = unfinished
    checkpoint = torch.load(folder.last_checkpoint)
    checkpoint[KEY]["vocabulary_fingerprint"] = "other"
    torch.save(checkpoint, folder.last_checkpoint)
    with pytest.raises(UserError, match="was trained with vocabulary other, but the corpus has vocabulary"):
        run(config, row=None)
