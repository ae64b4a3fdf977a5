"""Checkpoints: written whole, kept when better, read only where they fit."""

import resource
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn

from outrageous.config import RunConfig
from outrageous.data.corpus import Corpus
from outrageous.errors import UserError
from outrageous.training.checkpoints import (
    KEY,
    BestAndLast,
    StampedModule,
    WholeFiles,
    check_resumable,
    load_weights,
    read_checkpoint,
)
from outrageous.training.language_module import LanguageModule
from outrageous.training.run_folder import RunFolder


class FakeTrainer:
    """What `BestAndLast` sees of a trainer; `saved` holds (file name, step, weights only)."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(fn=TrainerFn.FITTING)
        self.callback_metrics: dict[str, torch.Tensor] = {}
        self.global_step = 0
        self.saved: list[tuple[str, int, bool]] = []

    def save_checkpoint(self, path: Path, weights_only: bool = False) -> None:
        self.saved.append((path.name, self.global_step, weights_only))


def validate(callback: BestAndLast, trainer: Any, step: int, dev_perplexity: float) -> None:
    trainer.global_step = step
    trainer.callback_metrics = {"dev_perplexity": torch.tensor(dev_perplexity)}
    callback.on_validation_end(trainer, None)  # type: ignore[arg-type]


def test_best_is_saved_when_lower_and_last_always(tmp_path: Path) -> None:
    trainer, callback = FakeTrainer(), BestAndLast(RunFolder(tmp_path))
    validate(callback, trainer, 5, 9.0)
    validate(callback, trainer, 10, 9.5)
    validate(callback, trainer, 15, 8.0)
    assert trainer.saved == [
        ("best.ckpt", 5, True),
        ("last.ckpt", 5, False),
        ("last.ckpt", 10, False),
        ("best.ckpt", 15, True),
        ("last.ckpt", 15, False),
    ]


def test_the_lowest_dev_perplexity_outlives_an_interruption_in_whatever_folder(tmp_path: Path) -> None:
    before, trainer = BestAndLast(RunFolder(tmp_path / "here")), FakeTrainer()
    validate(before, trainer, 5, 9.0)
    after = BestAndLast(RunFolder(tmp_path / "there"))
    after.load_state_dict(before.state_dict())
    trainer.saved.clear()
    validate(after, trainer, 10, 9.5)
    assert trainer.saved == [("last.ckpt", 10, False)]


def test_nothing_is_saved_outside_of_training(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    trainer.state.fn = TrainerFn.VALIDATING
    validate(BestAndLast(RunFolder(tmp_path)), trainer, 5, 9.0)
    assert trainer.saved == []


class Stamped(StampedModule):
    def __init__(self, **origin: Any) -> None:
        super().__init__({"commit": "c1", "dirty": False, "started_at": "now", "vocabulary_fingerprint": "v"} | origin)
        self.layer = torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("first", "now", "dirty"),
    [
        ({}, {}, False),
        ({"commit": "c0"}, {}, True),  # no one commit made it
        ({"dirty": True}, {}, True),
        ({}, {"dirty": True}, True),
        ({"commit": None, "dirty": None}, {"commit": None, "dirty": None}, None),  # no checkout
    ],
)
def test_a_resumed_run_starts_when_it_first_started_and_is_dirty_if_code_changed(
    first: dict[str, Any], now: dict[str, Any], dirty: bool | None
) -> None:
    checkpoint: dict[str, Any] = {}
    Stamped(started_at="then", **first).on_save_checkpoint(checkpoint)
    module = Stamped(**now)
    module.on_load_checkpoint(checkpoint)
    assert module.origin["started_at"] == "then"
    assert module.origin["dirty"] is dirty


def write(path: Path, **content: Any) -> Path:
    torch.save({KEY: {"vocabulary_fingerprint": "v", "config_hash": "h"}, "state_dict": {}} | content, path)
    return path


def corpus_with(vocabulary_fingerprint: str) -> Corpus:
    class Vocabulary(list[str]):
        fingerprint = vocabulary_fingerprint

    return SimpleNamespace(vocabulary=Vocabulary(["a"] * 7))  # type: ignore[return-value]


def test_whole_files_leaves_one_file(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"the one before")
    WholeFiles().save_checkpoint({"step": 3}, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt") == {"step": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_whole_files_on_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"the one before")
    (tmp_path / "last.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write checkpoint .*last\.ckpt: No space left on device"):
        WholeFiles().save_checkpoint({"weights": torch.ones(10)}, tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").read_bytes() == b"the one before"
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_whole_files_when_the_disk_fills_up_half_way(tmp_path: Path, in_child: Callable[..., tuple[int, str]]) -> None:
    """Where the write fails inside of torch, the disk's reason still comes out."""

    def save() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(UserError, match=r"cannot write checkpoint .*: File too large"):
            WholeFiles().save_checkpoint({"weights": torch.ones(1_000_000)}, tmp_path / "last.ckpt")

    assert in_child(save) == (0, "")
    assert not list(tmp_path.glob("last.*"))


def test_whole_files_hides_no_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        WholeFiles().save_checkpoint({"function": lambda: None}, tmp_path / "last.ckpt")


def test_folders_of_experts_go_with_the_checkpoint_that_named_them(tmp_path: Path) -> None:
    for name in ("last.experts.2.old", "last.experts.4.new", "best.experts.2.old"):
        (tmp_path / name).mkdir()
    for checkpoint, left in (
        ({"experts": "last.experts.4.new"}, {"last.experts.4.new", "best.experts.2.old"}),
        ({}, {"best.experts.2.old"}),  # one file again
    ):
        WholeFiles().save_checkpoint(checkpoint, tmp_path / "last.ckpt")
        assert {folder.name for folder in tmp_path.glob("*.experts.*")} == left


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    weights = torch.arange(3.0)
    checkpoint = read_checkpoint(write(tmp_path / "a.ckpt", state_dict={"weight": weights}))
    assert torch.equal(checkpoint["state_dict"]["weight"], weights)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.ckpt does not exist"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_checkpoint_is_called_damaged(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "a.ckpt", state_dict={"weight": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"a\.ckpt is damaged or no checkpoint \(.+\); delete it"):
        read_checkpoint(path)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder: name the file, such as .*best\.ckpt"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {KEY: {}}])
def test_a_foreign_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="was not written by outrageous"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_checkpoint_may_not_bring_code(tmp_path: Path) -> None:
    torch.save({KEY: {}, "state_dict": Stamped()}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="is damaged or no checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_resuming_asks_for_the_same_vocabulary_and_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "last.ckpt")
    check_resumable(path, "h", corpus_with("v"))
    with pytest.raises(UserError, match="trained with vocabulary v, but the corpus has vocabulary w of 7 words"):
        check_resumable(path, "h", corpus_with("w"))
    with pytest.raises(UserError, match="from a run with other settings: move it away to start from scratch"):
        check_resumable(path, "g", corpus_with("v"))


def test_loading_weights_takes_all_of_them_and_no_others(tmp_path: Path) -> None:
    module, other = Stamped(), Stamped()
    load_weights(module, write(tmp_path / "a.ckpt", state_dict=other.state_dict()), corpus_with("v"))
    assert torch.equal(module.layer.weight, other.layer.weight)
    with pytest.raises(UserError, match="trained with vocabulary v"):
        load_weights(module, tmp_path / "a.ckpt", corpus_with("w"))
    part = write(tmp_path / "part.ckpt", state_dict={"layer.weight": torch.ones(2, 2)})
    with pytest.raises(UserError, match=r"part\.ckpt is of another model: Missing key.* \"layer.bias\""):
        load_weights(module, part, corpus_with("v"))
    more = write(tmp_path / "more.ckpt", state_dict={**other.state_dict(), "more": torch.ones(2)})
    with pytest.raises(UserError, match=r"more\.ckpt is of another model: Unexpected key.* \"more\""):
        load_weights(module, more, corpus_with("v"))


def test_weights_of_another_size_are_refused_by_the_language_module(
    settings: Callable[..., RunConfig], corpus: Corpus, tmp_path: Path
) -> None:
    origin = {"vocabulary_fingerprint": corpus.vocabulary.fingerprint}
    small = LanguageModule(settings(tmp_path), len(corpus.vocabulary), origin)
    large = LanguageModule(settings(tmp_path, "model.moe.num_experts=5"), len(corpus.vocabulary), origin)
    torch.save({KEY: origin, "state_dict": large.state_dict()}, tmp_path / "large.ckpt")
    with pytest.raises(UserError, match=r"large\.ckpt is of another model: size mismatch for model\.layers"):
        load_weights(small, tmp_path / "large.ckpt", corpus)
