"""A whole run by several processes leaves what a run by one leaves, and goes on with any number of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from outrageous.commands.compose import run_config
from outrageous.errors import UserError
from outrageous.parallel.checkpoint_folders import put_back
from outrageous.parallel.processes import Processes
from outrageous.results.records import Record, read_record
from outrageous.training.checkpoints import read_checkpoint
from outrageous.training.run import run
from outrageous.training.supervised_module import SupervisedModule

Together = Callable[[Callable[[Processes], Any], int], list[Any]]
# Lightning cannot know that the batches go on where they stopped.
pytestmark = pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable")

# Twelve steps, of which the run that is broken off loses two. Everything random takes part.
STEPS = ["trainer.max_steps=12", "trainer.validate_every=5", "model.dropout=0.2"]
FLAT = ["experiment=lm/moe_32", "model.moe.num_experts=5", *STEPS]
SHARDED = [
    *("experiment=lm/moe_256_h", "model.moe.num_experts=12", "model.moe.num_groups=4", "optim=factored_adam"),
    *("model.moe.d_hidden=[6]", "trainer.sharded_checkpoints=true", *STEPS),
]


@pytest.fixture
def train(together: Together, tiny_corpus: list[str]) -> Callable[..., Record]:
    """A function that runs some settings in several processes; in step `end_in` the last of them ends them all."""

    def call(runs: Path, settings: list[str], size: int, end_in: int | None = None) -> Record:
        def one(processes: Processes) -> None:
            config = run_config([*settings[:1], *tiny_corpus, *settings[1:], f"paths.runs={runs}", *several])
            with pytest.MonkeyPatch.context() as patch:
                if end_in is not None:
                    patch.setattr(SupervisedModule, "training_step", ending_in(end_in))
                    with pytest.raises(UserError, match="stop"):
                        run(config, row=None)
                else:
                    run(config, row=None)

        several = ["trainer=expert_parallel", f"trainer.devices={size}"]
        together(one, size)
        return None if end_in is not None else read_record(next(runs.rglob("record.json")))  # type: ignore[return-value]

    return call


def ending_in(step: int) -> Callable[..., Any]:
    training_step = SupervisedModule.training_step

    def ends(self: SupervisedModule, batch: Any, batch_idx: int) -> Any:
        if self.global_step + 1 == step:
            raise UserError("stop")
        return training_step(self, batch, batch_idx)

    return ends


def state(runs: Path) -> dict[str, Any]:
    path = next(runs.rglob("last.ckpt"))
    return put_back(read_checkpoint(path), path, Processes())


def assert_alike(runs: Path, record: Record, whole: Path, expected: Record) -> None:
    """To the rounding of float32, which twelve steps of Adam make larger."""
    close: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}
    ours, theirs = state(runs), state(whole)
    torch.testing.assert_close(ours["state_dict"], theirs["state_dict"], **close)
    torch.testing.assert_close(
        ours["optimizer_states"][0]["state"], theirs["optimizer_states"][0]["state"], rtol=1e-2, atol=1e-4
    )
    assert record.metrics == pytest.approx(expected.metrics, rel=1e-4)
    assert [point.step for point in record.curve] == [5, 10, 12]
    assert record.words_trained == expected.words_trained
    assert (record.parameters, record.total_parameters) == (expected.parameters, expected.total_parameters)


@pytest.mark.parametrize(
    ("settings", "before", "after"),
    [(FLAT, 2, 3), (SHARDED, 3, 2)],
    ids=["flat, one file", "hierarchical, factored, experts in a folder"],
)
def test_a_run_broken_off_goes_on_with_another_number_of_processes(
    train: Callable[..., Record], settings: list[str], before: int, after: int, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = train(whole, settings, size=1)
    train(parts, settings, size=before, end_in=8)
    assert read_checkpoint(next(parts.rglob("last.ckpt")))["global_step"] == 5
    record = train(parts, settings, size=after)
    assert_alike(parts, record, whole, expected)
    folders = [path.name.split(".")[:2] for path in parts.rglob("*.experts.*") if path.is_dir()]
    assert sorted(folders) == ([["best", "experts"], ["last", "experts"]] if settings is SHARDED else [])


def test_a_gradient_that_is_not_finite_on_one_process_stops_all(
    together: Together, tiny_corpus: list[str], tmp_path: Path
) -> None:
    def one(processes: Processes) -> str:
        config = run_config([*FLAT[:1], *tiny_corpus, *FLAT[1:], f"paths.runs={tmp_path}", *several])
        after_backward = SupervisedModule.on_after_backward

        def spoil(self: SupervisedModule) -> None:
            if self.global_rank == 1 and self.global_step == 2:
                next(weight for name, weight in self.named_parameters() if "experts.weights" in name).grad.fill_(  # type: ignore[union-attr]
                    float("nan")
                )
            after_backward(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SupervisedModule, "on_after_backward", spoil)
            with pytest.raises(UserError) as caught:
                run(config, row=None)
        return str(caught.value)

    several = ["trainer=expert_parallel", "trainer.devices=2"]
    messages = together(one, 2)
    assert len({*messages}) == 1
    assert messages[0].startswith("the gradient's norm is nan at step 3")


def test_more_processes_than_experts_are_refused(together: Together, tiny_corpus: list[str], tmp_path: Path) -> None:
    def one(processes: Processes) -> str:
        with pytest.raises(UserError) as caught:
            run(run_config([*settings, f"paths.runs={tmp_path}"]), row=None)
        return str(caught.value)

    few = ["model.moe.num_experts=1", "model.moe.gate.k=1", "trainer=expert_parallel", "trainer.devices=2"]
    settings = [FLAT[0], *tiny_corpus, *few]
    assert "1 experts (or groups of them) cannot be spread over 2 processes" in together(one, 2)[0]
