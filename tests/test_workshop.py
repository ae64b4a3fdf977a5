"""The workshop keeps its word: documented commands exist, CI runs nothing else, imports run one way, pins fit."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = ["README.md", "CONTRIBUTING.md"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code(document: str) -> str:
    """The code blocks and `spans` of a Markdown document, a line each."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", read(document), re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", read(document), flags=re.DOTALL | re.MULTILINE)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", prose)])


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):.*## ", read("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_documented_make_target_exists(document: str) -> None:
    mentioned = set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", code(document)))
    assert "test" in mentioned
    assert mentioned <= make_targets()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_documented_path_exists(document: str) -> None:
    rooms = r"(?:src|conf|tests|data_prep)/"
    paths = re.findall(rf"(?<![\w/.]){rooms}[\w./-]*", code(document))
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert paths
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_documented_module_command_exists(document: str) -> None:
    modules = set(re.findall(r"python -m (outrageous[\w.]+)", code(document)))
    missing = [
        module for module in modules if not (ROOT / "src" / module.replace(".", "/")).with_suffix(".py").exists()
    ]
    assert not missing


def test_the_readme_examples_of_the_layer_run(capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.DOTALL | re.MULTILINE)
    variables: dict[str, Any] = {}
    for example in examples:  # each goes on from the one before
        exec(example, variables)
    assert variables["y"].shape == variables["x"].shape
    assert variables["hierarchical"](variables["x"])[0].shape == variables["x"].shape
    assert "cv_load" in capsys.readouterr().out


def test_ci_runs_the_readme_test_command_and_nothing_else() -> None:
    lines = [line for line in read(".ci/run").splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."', "make test"]
    assert re.search(r"^make test( |$)", code("README.md"), re.MULTILINE)
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize("name", PROJECT["scripts"])
def test_console_script_resolves(name: str) -> None:
    assert callable(EntryPoint(name, PROJECT["scripts"][name], "console_scripts").load())


def test_import_contracts_are_kept() -> None:
    lint_imports = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", lint_imports], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ranks_stay_out_of_the_layer() -> None:
    """import-linter sees whole external packages only; torch.distributed is banned by ruff."""
    ruff = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "src"]
    done = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    extras = [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
    direct = [Requirement(text) for text in [*PROJECT["dependencies"], *extras]]
    assert set(pins) == {requirement.name for requirement in direct} | {"uv"}
    outside = [str(requirement) for requirement in direct if pins[requirement.name] not in requirement.specifier]
    assert not outside


def test_set_up_without_a_usable_python_says_what_it_found(tmp_path: Path) -> None:
    """Three interpreters that cannot serve: a version manager's shim, one too old, and none at all."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "make", "tail"):
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    for name, script in {
        "python3": "echo Python 3.10.9; exit 1",
        "python3.12": "echo not installed >&2; exit 127",
    }.items():
        (tools / name).write_text(f"#!{shutil.which('sh')}\n{script}\n", encoding="utf-8")
        (tools / name).chmod(0o755)

    done = subprocess.run(
        ["make", "setup"], cwd=tmp_path, env={"PATH": str(tools)}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "Python 3.11 or 3.12 with its venv module is needed" in done.stderr
    assert "python3: Python 3.10.9" in done.stderr
    assert "python3.12: not installed" in done.stderr
    assert "python3.11: " in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_one_gpu_is_measured_by_whatever_python_is_named() -> None:
    """Without .venv, one half after the other, the package found in the sources."""
    command = ["make", "--dry-run", "bench-gpu", "RUN=some-python"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ".venv" not in printed
    measured = re.findall(r"^some-python -m (\S+ \S+)", printed, re.MULTILINE)
    benches = [f"outrageous.commands.bench {name}" for name in ("step", "products", "fit", "vocabulary", "agreement")]
    assert measured == ["pytest -m", *benches]
    assert re.search(r"^bench-gpu-speed bench-gpu-fit: export PYTHONPATH := src:", read("Makefile"), re.MULTILINE)
