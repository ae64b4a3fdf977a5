"""Predicted bytes and calls against those counted in a step."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

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
