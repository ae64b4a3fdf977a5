"""The layer's benchmarks as tables and a figure, from made-up figures."""

import math
from typing import Any

import pytest

from outrageous.results.cost_figure import cost_figure
from outrageous.results.layer_tables import cost_markdown, exponent, layer_markdown

ORIGIN: dict[str, Any] = {
    "command": "python -m outrageous.commands.bench layer",
    "commit": "abc",
    "dirty": False,
    "versions": {"python": "3.11", "torch": "2.13", "wandb": "1"},
    "hardware": {"cpu": "a processor", "cores": 2, "threads": 1, "accelerator": None, "memory": 1},
}
SIZE: dict[str, Any] = {"num_experts": 32, "num_tokens": 2048, "d_model": 512, "d_hidden": 1024, "k": 4}


def entry(name: str, forward_backward: float | None, step: float | None, note: str | None = None) -> dict[str, Any]:
    return {"name": name, "forward_backward": forward_backward, "step": step, "note": note}


CONTESTANTS = [
    entry("products of the experts", 0.45, None),
    entry("products of the experts and the gate", 0.48, None),
    entry("dense layer", 0.47, 0.5),
    entry("outrageous", 0.5, 0.7),
    entry("outrageous, memory got afresh", 0.6, 0.8),
    entry("outrageous, no weight gradients", 0.4, 0.5),
    entry("one: Layer", 0.9, 1.0),
    entry("two: Layer", None, None, "does not fit into memory"),
]


def test_ratios_of_the_layers() -> None:
    figures = {
        "sizes": [{**SIZE, "num_rounds": 5, "contestants": CONTESTANTS}],
        "peaks": [{**SIZE, "bytes": {"Adam": 17_180_000_000, "other": 7_999_000_000, "third": None}}],
    }
    text = layer_markdown({**ORIGIN, "figures": figures})
    assert "a processor, 1 thread; python 3.11, torch 2.13; commit abc." in text
    # 0.45/0.5, 0.48/0.5, 0.9/0.5, 0.45/0.6, 0.9/0.6; of steps 1.0/0.7, 1.0/0.5
    assert "| 32 | 2048 | 0.90 | 0.96 | 1.80 | 0.75 | 1.50 | 1.43 | 2.00 |" in text
    assert "| outrageous | 500 | 0.90 | 0.96 | 700 |  |" in text
    assert "| products of the experts | 450 | 1.00 | 1.07 | - |  |" in text
    assert "| two: Layer | - | - | - | - | does not fit into memory |" in text
    assert "| 32 | 2048 | Adam | 17.18 | no |" in text
    assert "| 32 | 2048 | other | 8.00 | yes |" in text
    assert "| 32 | 2048 | third | does not fit | no |" in text


def test_without_other_packages_their_ratios_are_left_out() -> None:
    size = {**SIZE, "num_rounds": 5, "contestants": CONTESTANTS[:5]}
    text = layer_markdown({**ORIGIN, "dirty": True, "figures": {"sizes": [size], "peaks": []}})
    assert "| 32 | 2048 | 0.90 | 0.96 | - | 0.75 | - | - | - |" in text
    assert "commit abc with changes." in text


def test_exponents_are_slopes_of_logarithms() -> None:
    assert exponent({4: 3.0, 16: 6.0, 64: 12.0}) == pytest.approx(0.5)  # doubles where N grows fourfold
    # ln 1, ln 2, ln 4 against 0, 0, ln 4 in seconds: slope = (ln2 · ln4) / (2 · ln²2) = 1
    assert exponent({1: 1.0, 2: 1.0, 4: 4.0}) == pytest.approx(1.0)
    assert math.isnan(exponent({4: 3.0}))


def test_cost_as_a_table_and_a_figure() -> None:
    curves = {
        "flat layer": [1.0, 2.0],
        "hierarchical layer": [1.0, 1.0],
        "flat gating": [0.1, 0.4],
        "hierarchical gating": [0.1, 0.05],
    }
    points = [
        {"kind": kind, "num_experts": number, "forward_backward": value}
        for kind, values in curves.items()
        for number, value in zip((16, 64), values, strict=True)
    ]
    content = {**ORIGIN, "figures": {**SIZE, "num_experts": [16, 64], "num_rounds": 3, "points": points}}
    text = cost_markdown(content)
    assert "| N | flat layer | hierarchical layer | flat gating | hierarchical gating |" in text
    assert "| 64 | 2,000 | 1,000 | 400 | 50.00 |" in text
    assert "| exponent | 0.50 | 0.00 | 1.00 | -0.50 |" in text
    assert "At N = 64 flat gating costs 8.0 times as much as hierarchical gating." in text
    drawing = cost_figure(content)
    assert drawing.svg == cost_figure(content).svg
    assert b"hierarchical gating" in drawing.svg
