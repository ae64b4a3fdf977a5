"""A whole run by several processes leaves what a run by one leaves, and goes on with any number of them."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from outrageous.commands.compose import any_config, run_config
from outrageous.data.batching import Batch
from outrageous.errors import UserError
from outrageous.parallel.checkpoint_folders import put_back
from outrageous.parallel.processes import Processes
from outrageous.parallel.spread import spread
from outrageous.results.records import Record, read_record
from outrageous.training.checkpoints import read_checkpoint
from outrageous.training.language_module import LanguageModule
from outrageous.training.run import run
from outrageous.training.settings import check_settings
from outrageous.training.supervised_module import SupervisedModule

VOCABULARY = 50
Together = Callable[..., list[Any]]
# Lightning cannot know that the batches go on where they stopped.
pytestmark = pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable")

# Twelve steps, of which the run that is broken off loses two. Everything random takes part.
STEPS = ["trainer.max_steps=12", "trainer.validate_every=5", "model.dropout=0.2"]
FLAT = ["model.moe.num_experts=5", *STEPS]
SHARDED = [
    *("experiment=lm/moe_256_h", "model.moe.num_experts=12", "model.moe.num_groups=4", "optim=factored_adam"),
    *("model.moe.d_hidden=[6]", "trainer.sharded_checkpoints=true", *STEPS),
]


@pytest.fixture
def corpora(tiny_corpus: list[str], tiny_pairs: list[str]) -> dict[str, list[str]]:
    """Settings of a run on each."""
    return {"text": ["experiment=lm/moe_32", *tiny_corpus], "pairs": tiny_pairs}


@pytest.fixture
def train(together: Together) -> Callable[..., Record]:
    """A function that runs some settings in several processes; in step `end_in` the last of them ends them all."""

    def call(
        runs: Path, settings: list[str], size: int, end_in: int | None = None, trainer: str = "expert_parallel"
    ) -> Record:
        def one(processes: Processes) -> None:
            config = any_config([*settings, f"paths.runs={runs}", *several])
            with pytest.MonkeyPatch.context() as patch:
                if end_in is not None:
                    patch.setattr(SupervisedModule, "training_step", ending_in(end_in))
                    with pytest.raises(UserError, match="stop"):
                        run(config, row=None)
                else:
                    run(config, row=None)

        several = [f"trainer={trainer}", f"trainer.devices={size}"]
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
    mine = ours["optimizer_states"][0]["state"]
    for number, of_parameter in theirs["optimizer_states"][0]["state"].items():
        for name, value in of_parameter.items():  # small as squares of gradients are: by their own size
            off = (mine[number][name] - value).norm()
            assert off <= 1e-3 * value.norm(), f"{name} of parameter {number}: {off:.3g} of {value.norm():.3g}"
    assert record.metrics == pytest.approx(expected.metrics, rel=1e-4)
    assert [point.step for point in record.curve] == [point.step for point in expected.curve]
    assert record.words_trained == expected.words_trained
    assert (record.parameters, record.total_parameters) == (expected.parameters, expected.total_parameters)


@pytest.mark.parametrize(
    ("corpus", "settings", "before", "afters"),
    [
        ("text", FLAT, 2, (1, 3, 4)),
        ("text", SHARDED, 3, (2,)),
        ("pairs", [*STEPS, "trainer.words_per_batch=200"], 2, (3,)),
    ],
    ids=["flat, one file", "hierarchical, factored, experts in a folder", "translation"],
)
def test_a_run_broken_off_goes_on_with_another_number_of_processes(
    train: Callable[..., Record],
    corpora: dict[str, list[str]],
    corpus: str,
    settings: list[str],
    before: int,
    afters: tuple[int, ...],
    tmp_path: Path,
) -> None:
    settings = [*corpora[corpus], *settings]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = train(whole, settings, size=1)
    assert [point.step for point in expected.curve] == [5, 10, 12]
    train(broken, settings, size=before, end_in=8)
    assert read_checkpoint(next(broken.rglob("last.ckpt")))["global_step"] == 5
    for after in afters:
        parts = tmp_path / f"by {after}"
        shutil.copytree(broken, parts)
        assert_alike(parts, train(parts, settings, size=after), whole, expected)
        folders = [path.name.split(".")[:2] for path in parts.rglob("*.experts.*") if path.is_dir()]
        is_sharded = "trainer.sharded_checkpoints=true" in settings
        assert sorted(folders) == ([["best", "experts"], ["last", "experts"]] if is_sharded else [])


def test_replicas_train_as_one_process_does(
    train: Callable[..., Record], corpora: dict[str, list[str]], tmp_path: Path
) -> None:
    settings = [*corpora["text"], *FLAT, "trainer.max_steps=5"]
    expected = train(tmp_path / "whole", settings, size=1)
    record = train(tmp_path / "parts", settings, size=2, trainer="ddp")
    assert record.config["trainer"]["strategy"] == "ddp"
    assert_alike(tmp_path / "parts", record, tmp_path / "whole", expected)


def test_the_loss_that_a_step_reports_is_that_of_the_whole_batch(together: Together) -> None:
    words = torch.randint(VOCABULARY, (5, 4), generator=torch.Generator().manual_seed(0))

    def one(processes: Processes) -> tuple[float, int]:
        config = run_config(["experiment=lm/moe_32", "scale=smoke", "model.num_sampled=16"])
        module = LanguageModule(config, VOCABULARY, {})
        module.processes, module.batches_are_divided = processes, True
        spread(module.model, processes, shard_experts=True)
        mine = words[processes.rank :: processes.size]
        torch.manual_seed(0)  # sampled classes
        step = module.training_step(Batch(mine, mine, torch.ones_like(mine).bool(), torch.arange(mine.numel())), 0)
        step["loss"].backward()
        module.gradients_and_norm()
        return step["word_loss"].item(), step["num_words"]

    [(expected, num_words)] = together(one, 1)
    assert num_words == 20
    for result in together(one, 2):
        assert result == (pytest.approx(expected, rel=1e-5), 20)


def test_a_gradient_that_is_not_finite_on_one_process_stops_all(
    together: Together, corpora: dict[str, list[str]], tmp_path: Path
) -> None:
    def one(processes: Processes) -> str:
        config = any_config([*corpora["text"], *FLAT, f"paths.runs={tmp_path}", *several])
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


def test_a_killed_process_ends_the_others_and_nothing_is_lost_but_the_steps_since_the_last_checkpoint(
    together: Together, corpora: dict[str, list[str]], tmp_path: Path
) -> None:
    settings = [*corpora["text"], *FLAT, "trainer=expert_parallel", "trainer.devices=2", f"paths.runs={tmp_path}"]

    def one(processes: Processes) -> list[str]:
        training_step = SupervisedModule.training_step

        def killed(self: SupervisedModule, batch: Any, batch_idx: int) -> Any:
            if processes.rank == 1 and self.global_step == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            return training_step(self, batch, batch_idx)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SupervisedModule, "training_step", killed)
            with pytest.raises(UserError) as caught:
                run(any_config(settings), row=None)
        return [str(caught.value), *caught.value.__notes__]

    ((message, note),) = together(one, 2, killed=[1])
    assert message.startswith("lost another process of this run, which has ended or does not answer")
    assert note.startswith("the same command goes on from step 5")
    assert read_checkpoint(next(tmp_path.rglob("last.ckpt")))["global_step"] == 5


def test_more_processes_than_experts_are_refused_before_any_is_started(corpora: dict[str, list[str]]) -> None:
    several = ["trainer=expert_parallel", "trainer.devices=3", "trainer.num_nodes=2"]
    check_settings(any_config([*corpora["text"], *several, "model.moe.num_experts=6"]))
    with pytest.raises(
        UserError,
        match=r"trainer.devices=3 trainer.num_nodes=2: 5 experts .* cannot be spread over 6 processes",
    ):
        check_settings(any_config([*corpora["text"], *several, "model.moe.num_experts=5"]))
    several[0] = "trainer=ddp"
    check_settings(any_config([*corpora["text"], *several, "model.moe.num_experts=5"]))
