"""A run's folder is named by what changes its result."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from outrageous.commands.compose import run_config
from outrageous.config import RunConfig
from outrageous.results.records import read_record
from outrageous.training.run_folder import config_hash, plain_config, run_folder

Settings = Callable[..., RunConfig]
REPOSITORY = Path(__file__).parents[2]


def test_the_folder_names_experiment_scale_seed_and_settings(settings: Settings) -> None:
    config = settings(Path("/runs"), "seed=3")
    folder = run_folder(config, "data")
    assert folder.path == Path("/runs/lm/moe_4/smoke/seed_3") / config_hash(config, "data")
    assert folder.record == folder.path / "record.json"
    assert folder.last_checkpoint == folder.path / "last.ckpt"
    assert folder.best_checkpoint == folder.path / "best.ckpt"
    assert folder.progress == folder.path / "progress.json"


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "paths.runs=elsewhere",
        "paths.corpora=elsewhere",
        "data.path=elsewhere",
        "logger.group=table_7",
        "logger.tags=[mine]",
        "trainer.num_threads=2",
        "trainer.devices=2",
        "trainer.num_nodes=2",
        "trainer.timeout=9",
        "trainer.sharded_checkpoints=true",
    ],
)
def test_what_changes_no_result_leaves_the_hash_alone(settings: Settings, override: str) -> None:
    plain, changed = settings(Path("runs")), settings(Path("runs"), override)
    assert changed != plain
    assert config_hash(changed, "data") == config_hash(plain, "data")


@pytest.mark.parametrize(
    "override",
    [
        "model.dropout=0.5",
        "model.moe.num_experts=5",
        "optim.learning_rate=0.5",
        "optim.experts=factored_adam",
        "optim.experts_learning_rate=0.5",
        "optim.tables=sparse_adam",
        "model.project_lstm=true",
        "model.moe.recompute=true",
        "schedule.warmup_steps=3",
        "balance.w_load=0.5",
        "trainer.max_epochs=2",
        "trainer.words_per_batch=300",
        "trainer.validate_every=3",
        "trainer.strategy=ddp",
        "scale.d_hidden=64",
        "data.min_count=2",
        "experiment=lm/moe_32",
    ],
)
def test_what_changes_a_result_changes_the_hash(settings: Settings, override: str) -> None:
    changed = settings(Path("runs"), override)
    assert config_hash(changed, "data") != config_hash(settings(Path("runs")), "data")


def test_other_data_is_another_run(settings: Settings) -> None:
    config = settings(Path("runs"))
    assert config_hash(config, "data") != config_hash(config, "other data")


def test_records_before_a_setting_have_the_hash_of_today() -> None:
    """moe_32's were made without some settings of today, moe_1_deep's with a learning rate for experts."""
    for experiment in ("moe_32", "moe_1_deep", "4xlstm_512"):
        record = read_record(
            REPOSITORY / "results" / "records" / "lm" / experiment / "pocket" / "seed_0" / "record.json"
        )
        config = run_config([f"experiment=lm/{experiment}", "scale=pocket"])
        assert config_hash(config, record.data_fingerprint) == record.config_hash


def test_settings_become_plain_json_and_stay_as_they_are(settings: Settings) -> None:
    config = settings(Path("runs"))
    plain = plain_config(config)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["model"]["layers"] == ["lstm", "moe", "lstm"]
    assert plain["model"]["moe"]["gate"] == {"kind": "noisy_top_k", "k": 4}
    config_hash(config, "data")
    assert plain_config(config) == plain
