"""The decoding benchmark's table and figure, by hand."""

from typing import Any

import pytest

from outrageous.results.decoding_tables import decoding_figure, decoding_markdown


@pytest.fixture
def content() -> dict[str, Any]:
    seconds = {"beam of 1": {10: 0.5, 20: 1.0}, "greedy, encoding again": {10: 1.0, 20: 6.0}}
    speeds = [
        {"name": name, "length": length, "seconds": value, "seconds_per_word": value / (length * 8)}
        for name, of_length in seconds.items()
        for length, value in of_length.items()
    ]
    return {
        "command": "python -m outrageous.commands.bench decoding",
        "commit": "abc",
        "dirty": False,
        "versions": {"python": "3.11", "torch": "2.13"},
        "hardware": {
            "cpu": "a cpu",
            "cores": 2,
            "threads": 1,
            "memory_gb": 8,
            "accelerator": None,
            "platform": "Linux",
        },
        "figures": {
            "experiment": "mt/moe_32",
            "scale": "pocket",
            "num_sentences": 8,
            "source_length": 20,
            "lengths": [10, 20],
            "num_rounds": 3,
            "speeds": speeds,
        },
    }


def test_table_by_hand(content: dict[str, Any]) -> None:
    lines = decoding_markdown(content).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| beam of 1")]
    assert rows == [
        ["beam of 1", "16.0", "8.0"],  # 8 sentences in half a second, in one
        ["beam of 1", "6.250", "6.250", "1.00"],  # 500 ms / (10 · 8), 1000 ms / (20 · 8): flat
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| greedy")]
    assert rows == [["greedy, encoding again", "8.0", "1.3"], ["greedy, encoding again", "12.500", "37.500", "3.00"]]


def test_figure_has_a_line_for_each_way(content: dict[str, Any]) -> None:
    svg = decoding_figure(content).svg
    assert svg == decoding_figure(content).svg
    assert svg.startswith(b"<?xml")
    content["figures"]["speeds"] = content["figures"]["speeds"][:2]
    assert decoding_figure(content).svg.count(b"<use ") < svg.count(b"<use ")  # markers of one line fewer
