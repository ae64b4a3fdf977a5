"""The layer in a model of one's own: the example, and what the README shows."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["flat", "hierarchical", "strictly_balanced"])
def test_the_example_learns(kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["layer_alone.py", kind])
    runpy.run_path(str(ROOT / "examples" / "layer_alone.py"), run_name="__main__")
    printed = capsys.readouterr().out
    *training, evaluation = [float(loss) for loss in re.findall(r"loss ([\d.]+)", printed)]
    assert len(training) == 7
    assert training[-1] < training[0] / 10
    assert evaluation < training[0] / 5
    experts_per_token = float(printed.split()[-1])
    assert experts_per_token == pytest.approx(2, abs=0.5 if kind == "strictly_balanced" else 0)


def test_the_readmes_lines_run() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## The layer alone")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert {"layer", "hierarchical", "balanced"} <= names.keys()
