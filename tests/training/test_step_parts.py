"""What a step's time is put down to."""

from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from outrageous.commands.compose import run_config
from outrageous.errors import UserError
from outrageous.training.benchmark import Stepper
from outrageous.training.step_benchmark import ONE_STEP, dense_flops, measure_steps
from outrageous.training.step_parts import label, seconds_of_parts


def test_the_backward_pass_counts_for_the_part_that_made_it_necessary() -> None:
    x, weight = (torch.randn(600, 600, requires_grad=True) for _ in range(2))
    shares = []
    for _ in range(5):  # others on the machine may interrupt one or another
        with profile(activities=[ProfilerActivity.CPU], schedule=ONE_STEP) as trace:
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


def test_the_dense_rate_is_that_of_a_product() -> None:
    assert 1e8 < dense_flops(torch.device("cpu"), torch.float32) < 1e14


@pytest.mark.cuda
def test_parts_of_steps_on_a_gpu(tmp_path: Path) -> None:
    experiment = ["experiment=lm/moe_256_h", "scale=paper", "trainer=gpu", "trainer.words_per_batch=2000"]
    data = ["data=synthetic", "data.max_size=10000", "data.max_rows=3000", f"paths.corpora={tmp_path}"]
    figures = measure_steps([run_config([*experiment, *data])], num_rounds=1, num_threads=1)
    (row,) = figures["rows"]
    assert min(row["parts"].values()) > 0
    assert 0 < row["share_of_dense"] < 1
