"""Predicted bytes and calls against those counted in a step."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from outrageous.commands.compose import run_config
from outrageous.models.language_model import LanguageModel
from outrageous.parallel.processes import Processes
from outrageous.parallel.traffic import Device, expected_rows, predict_seconds, predict_traffic
from outrageous.training.traffic_benchmark import count_step

WORDS, VOCABULARY = 1024, 5000
SMALL = ["scale=smoke", "model.num_sampled=16"]
EXPERIMENTS = {
    "flat": ["experiment=lm/moe_32", *SMALL],
    "hierarchical": ["experiment=lm/moe_256_h", *SMALL, "model.moe.num_experts=64", "model.moe.num_groups=8"],
}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", list(EXPERIMENTS))
def test_bytes_and_calls_are_as_predicted(
    together: Callable[[Callable[[Processes], Any], int], list[Any]], kind: str, size: int
) -> None:
    config = run_config(EXPERIMENTS[kind])
    counts = together(lambda processes: count_step(processes, config, VOCABULARY, WORDS), size)
    model = LanguageModel(config.model, VOCABULARY)
    (num_used,) = {count.num_used for count in counts}
    assert num_used == pytest.approx(expected_rows(model, WORDS), rel=0.05)
    predicted = predict_traffic(model, WORDS, size, num_used)
    for count in counts:
        assert (count.exchanges, count.sums) == (predicted.exchanges, predicted.sums)
        assert count.summed == predicted.summed
    # Gates choose as chance has it, and 64 sentences are not divided by 3.
    assert sum(count.sent for count in counts) / size == pytest.approx(predicted.sent, rel=0.05)


@pytest.mark.parametrize("kind", list(EXPERIMENTS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_travel_in_the_dtype_in_which_experts_compute(
    together: Callable[[Callable[[Processes], Any], int], list[Any]], kind: str, dtype: torch.dtype
) -> None:
    config = run_config(EXPERIMENTS[kind])

    def one(processes: Processes) -> list[torch.dtype]:
        dtypes = []
        all_to_all_single = dist.all_to_all_single

        def noted(output: Tensor, rows: Tensor, *counts: Any) -> None:
            if rows.shape[1:] == (config.model.d_model,):
                dtypes.append(rows.dtype)
            all_to_all_single(output, rows, *counts)

        in_bfloat16 = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
        with mock.patch.object(dist, "all_to_all_single", noted), in_bfloat16:
            count_step(processes, config, VOCABULARY, WORDS)
        return dtypes

    for dtypes in together(one, 2):
        assert dtypes == [dtype] * 4  # there and back, and so gradients


def test_a_step_is_predicted_from_computing_sending_and_calls() -> None:
    config = run_config(EXPERIMENTS["flat"])
    with torch.device("meta"):
        model = LanguageModel(config.model, VOCABULARY)
    free = Device(flops=1e9, bandwidth=float("inf"), latency=0)
    alone = predict_seconds(model, WORDS, 1, free)
    assert predict_seconds(model, WORDS, 4, free) == pytest.approx(alone / 4)
    traffic = predict_traffic(model, WORDS, 4)
    slow = predict_seconds(model, WORDS, 4, Device(flops=1e9, bandwidth=1e6, latency=1e-3))
    sent = traffic.rows + traffic.others + 1.5 * traffic.summed  # a ring of four: 2 · 3/4
    assert slow == pytest.approx(alone / 4 + sent / 1e6 + (traffic.exchanges + traffic.sums) * 1e-3)
