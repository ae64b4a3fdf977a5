"""What a step's time is put down to."""

from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from outrageous.commands.compose import run_config
from outrageous.config import RunConfig
from outrageous.errors import UserError
from outrageous.results.step_table import step_markdown
from outrageous.training import step_benchmark
from outrageous.training.benchmark import Stepper
from outrageous.training.device_memory import enough_memory, reason_of
from outrageous.training.run import run
from outrageous.training.step_benchmark import AFTER_ONE, Turn, dense_flops, measure_steps
from outrageous.training.step_parts import PARTS, label, seconds_of_parts

ORIGIN = {
    "command": "bench step",
    "commit": "abc",
    "dirty": False,
    "versions": {},
    "hardware": {"accelerator": None, "cpu": "some CPU", "threads": 1},
}


def test_the_backward_pass_counts_for_the_part_that_made_it_necessary() -> None:
    x, weight = (torch.randn(600, 600, requires_grad=True) for _ in range(2))
    shares = []
    for _ in range(5):  # others on the machine may interrupt one or another
        with profile(activities=[ProfilerActivity.CPU], schedule=AFTER_ONE) as trace:
            for step in range(2):
                with label("experts"):
                    y = x @ weight
                with label("gate"):
                    loss = y.detach().relu().sum() + (y[0] * 2).sum()
                loss.backward()
                if step == 0:
                    trace.step()
        seconds = seconds_of_parts(trace, on_gpu=False)
        shares.append(seconds["experts"] / sum(seconds.values()))
        assert seconds["gate"] > 0
        assert seconds["LSTMs"] == seconds["optimizer"] == 0
    assert max(shares) > 0.6  # of three products two are of the backward pass


def test_a_gpu_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match=r"trainer\.accelerator=cuda: there is no CUDA device"):
        Stepper(run_config(["experiment=lm/moe_4", "scale=smoke", "trainer=gpu"]), vocabulary_size=500)


def test_a_gpu_that_is_not_there_is_missed_before_a_corpus_is_prepared(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    config = run_config(["experiment=lm/moe_4", "scale=smoke", "trainer=gpu", f"paths.corpora={tmp_path}"])
    with pytest.raises(UserError, match=r"trainer\.accelerator=cuda: there is no CUDA device"):
        run(config, row=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried …\nmore"), "does not fit"),
        (RuntimeError("Can't process more than 1024 groups | of rows\nat GroupMM.cu"), "Can't process"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_a_step_that_fails_is_a_line_of_the_table(
    error: RuntimeError, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first model here, which others would be set against."""

    def turn(work: object, config: RunConfig, num_threads: int) -> Turn | str:
        return (
            reason_of(error) if config.name == "lm/moe_4" else Turn([2.0], [1.0], parts, 10**9, 6, 3, 500, False, 1.0)
        )

    parts = dict.fromkeys(PARTS, 1 / len(PARTS))
    monkeypatch.setattr(step_benchmark, "in_own_process", turn)
    configs = [run_config([f"experiment={name}", "scale=smoke"]) for name in ("lm/moe_4", "lm/moe_32")]
    first, *_, last = measure_steps(configs, num_rounds=2, num_threads=1)
    text = step_markdown({**ORIGIN, "figures": last})
    assert f"- lm/moe_4: {reason}" in text
    assert "| lm/moe_32 | 2 | 1.00 |" in text
    assert "Did not run" in step_markdown({**ORIGIN, "figures": first})  # before any other had its turn


def test_a_model_too_large_for_the_gpu_is_answered_with_what_takes_less() -> None:
    config = run_config(["experiment=lm/moe_4096_h", "scale=paper", "trainer=gpu"])
    with (
        pytest.raises(UserError, match=r"savings=appendix_d.*words_per_batch=300000.*--devices 1"),
        enough_memory(config),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_the_dense_rate_is_that_of_a_product() -> None:
    assert 1e8 < dense_flops(torch.device("cpu"), torch.float32) < 1e14


@pytest.mark.cuda
def test_parts_of_steps_on_a_gpu(tmp_path: Path) -> None:
    experiment = ["experiment=lm/moe_256_h", "scale=paper", "trainer=gpu", "trainer.words_per_batch=2000"]
    data = ["data=synthetic", "data.max_size=10000", "data.max_rows=3000", f"paths.corpora={tmp_path}"]
    (figures,) = measure_steps([run_config([*experiment, *data])], num_rounds=1, num_threads=1)
    (row,) = figures["rows"]
    assert min(row["parts"].values()) > 0
    assert 0 < row["share_of_dense"] < 1
