"""The example of the layer in a model of one's own."""

import re
import runpy
from pathlib import Path

import pytest


def test_the_example_learns(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "layer_alone.py"), run_name="__main__")
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", capsys.readouterr().out)]
    assert len(losses) == 7
    assert losses[-1] < losses[0] / 10
