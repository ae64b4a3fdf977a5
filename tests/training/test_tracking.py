"""W&B: when it is online, how runs are named, and what an offline run holds."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from outrageous.config import RunConfig
from outrageous.errors import UserError
from outrageous.training.run import run
from outrageous.training.run_folder import RunFolder, plain_config
from outrageous.training.tracking import ExpertLoadPlots, how_to_look, make_logger, wandb_mode


@pytest.mark.parametrize(
    ("mode", "key", "expected"),
    [
        (None, None, "offline"),
        (None, "secret", "online"),
        ("offline", "secret", "offline"),
        ("disabled", None, "disabled"),
        ("online", None, "online"),
        ("", "", "offline"),
    ],
)
def test_online_only_where_the_user_set_it_up(
    monkeypatch: pytest.MonkeyPatch, mode: str | None, key: str | None, expected: str
) -> None:
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    assert wandb_mode() == expected


def test_an_unknown_mode_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(UserError, match="WANDB_MODE=onlin: must be one of online, offline, disabled"):
        wandb_mode()


def test_only_an_offline_run_says_how_to_look_and_to_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    look = how_to_look(Path("runs/x"))
    assert look is not None
    assert "wandb leet runs/x/wandb" in look
    assert "wandb sync runs/x/wandb/offline-run-*" in look
    monkeypatch.setenv("WANDB_MODE", "online")
    assert how_to_look(Path("runs/x")) is None


def test_the_seeds_of_a_sweep_share_group_and_tags(
    settings: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = settings(Path("runs"), "seed=2", "logger.group=table_7", "logger.tags=[table_7]")
    folder = Path("runs/lm/moe_4/smoke/seed_2/0123abcdef")
    logger = make_logger(config, folder)
    given: dict[str, Any] = logger._wandb_init
    assert given["name"] == "lm/moe_4-smoke-seed_2"
    assert given["id"].startswith("moe_4-smoke-seed_2-0123abcdef-")
    assert given["id"] == make_logger(config, folder)._wandb_init["id"]  # the same when the run goes on
    assert given["id"] != make_logger(config, "another checkout" / folder)._wandb_init["id"]
    assert given["resume"] == "allow"
    assert given["mode"] == "disabled"
    assert (given["group"], given["tags"]) == ("table_7", ["table_7", "lm/moe_4", "smoke"])
    assert given["config"] == plain_config(config)
    assert given["dir"] == str(folder)


def test_the_history_of_loads_outlives_an_interruption() -> None:
    first, second = ExpertLoadPlots(), ExpertLoadPlots()
    first._history.append(torch.tensor([[1, 2]]))
    second.load_state_dict(first.state_dict())
    assert torch.equal(torch.stack(second._history), torch.tensor([[[1, 2]]]))


@pytest.fixture(scope="module")
def offline_run(settings: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of 16 steps with 8 experts, k = 4, in two MoE layers; logged every 4 steps, validated after 8 and 16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        config = settings(
            tmp_path_factory.mktemp("runs"),
            "model.moe.num_experts=8",
            "model.layers=[lstm,moe,moe]",
            "trainer.validate_every=8",
            "trainer.log_every=4",
            "optim.learning_rate=0.01",
            "schedule.warmup_steps=10",
        )
        _, folder = run(config, row="moe_4")
    return folder


@pytest.fixture(scope="module")
def history(offline_run: RunFolder) -> list[dict[str, Any]]:
    """The rows of the offline run, as W&B's own reader shows them."""
    (wandb_folder,) = offline_run.path.glob("wandb/offline-run-*")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(wandb_folder)]
    lines = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    return [record["history"]["item"] for record in records if record["type"] == "history"]


def steps_with(history: list[dict[str, Any]], key: str) -> list[int]:
    return [row["trainer/global_step"] for row in history if key in row]


def test_losses_speed_and_utilisation_are_logged_every_few_steps(history: list[dict[str, Any]]) -> None:
    for key in (
        "train/word_loss",
        "train/balance_loss",
        "train/grad_norm",
        "train/learning_rate",
        "speed/words_per_second",
        "speed/tflops",
        "experts/cv_importance",
        "experts/cv_load",
        "experts/max_over_mean_load",
    ):
        assert steps_with(history, key) == [4, 8, 12, 16], key
    rates = [row["train/learning_rate"] for row in history if "train/learning_rate" in row]
    # Of the step itself, not of the next: 4/10, 8/10, √(10/12), √(10/16) of the peak.
    assert rates == pytest.approx([0.004, 0.008, 0.00912871, 0.00790569])


def test_perplexities_are_logged_once(history: list[dict[str, Any]], offline_run: RunFolder) -> None:
    assert steps_with(history, "dev/perplexity") == [8, 16]
    assert steps_with(history, "test/perplexity") == [16]
    assert not steps_with(history, "dev_perplexity")
    record = json.loads(offline_run.record.read_text())
    (test_perplexity,) = [row["test/perplexity"] for row in history if "test/perplexity" in row]
    assert test_perplexity == record["metrics"]["test_perplexity"]


def test_each_layers_experts_have_a_histogram_at_each_validation(history: list[dict[str, Any]]) -> None:
    for layer in (0, 1):
        name = f"experts/tokens_per_expert_{layer}"
        assert steps_with(history, f"{name}._type") == [8, 16]
        for row in history:
            if f"{name}._type" in row:
                assert row[f"{name}._type"] == "histogram"
                assert sum(row[f"{name}.values"]) == 8  # experts


def test_the_run_ends_with_a_heatmap_and_its_row_of_the_table(
    history: list[dict[str, Any]], offline_run: RunFolder
) -> None:
    for layer in (0, 1):
        assert steps_with(history, f"experts/load_heatmap_{layer}._type") == [16]
    assert len(list(offline_run.path.glob("wandb/offline-run-*/files/media/images/experts/*.png"))) == 2
    (file,) = offline_run.path.glob("wandb/offline-run-*/files/media/table/result*.json")
    table = json.loads(file.read_text())
    row = dict(zip(table["columns"], table["data"][0], strict=True))
    record = json.loads(offline_run.record.read_text())
    assert (row["row"], row["scale"], row["seed"]) == ("moe_4", "smoke", 0)
    assert row["test_perplexity"] == record["metrics"]["test_perplexity"]
    assert (row["params"], row["ops_per_timestep"]) == (record["parameters"], record["ops_per_timestep"])
