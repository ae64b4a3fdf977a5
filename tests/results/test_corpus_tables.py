"""What `outrageous-bench data` writes."""

import re
from typing import Any

import pytest

from outrageous.results.corpus_tables import corpus_markdown


def content(seconds: dict[int, float]) -> dict[str, Any]:
    preparations = [{"words": words, "bytes": 5 * words, "seconds": s, "memory": 10**9} for words, s in seconds.items()]
    batches = {"words_per_batch": 8, "num_epochs": 1, "seconds_to_first": 2.0, "words_per_second": 1e6, "memory": 10**9}
    return {
        "command": "bench data",
        "commit": "c0ffee",
        "dirty": False,
        "versions": {"python": "3.11", "torch": "2.13"},
        "hardware": {"cpu": "a CPU", "cores": 2, "threads": 1, "accelerator": None},
        "figures": {"num_types": 9, "preparations": preparations, "batches": batches},
    }


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        (
            {1_000_000: 12.0, 2_000_000: 14.0, 4_000_000: 18.0},
            r"10\.0 s \+ 2\.000 s for each million words; .* 0\.0% off",
        ),
        # Through (0, 0), (1, 0), (2, 3): the least squares are -0.5 + 1.5x, which is 1 above the middle. Shifted by 1.
        ({0: 1.0, 1_000_000: 1.0, 2_000_000: 4.0}, r" 0\.5 s \+ 1\.500 s for each million words; .* 100\.0% off"),
        ({1_000_000: 12.0, 2_000_000: 14.0}, "fewer than three"),
    ],
)
def test_a_straight_line_is_fitted_to_the_seconds(seconds: dict[int, float], line: str) -> None:
    assert re.search(line, corpus_markdown(content(seconds)))
