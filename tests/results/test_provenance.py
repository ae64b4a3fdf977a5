import platform
import subprocess
from pathlib import Path

import pytest

from outrageous.results import provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("x = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "-m", "start")
    return tmp_path


def test_a_clean_checkout(checkout: Path) -> None:
    assert provenance.git_state(checkout) == (git(checkout, "rev-parse", "HEAD"), False)


@pytest.mark.parametrize("name", ["code.py", "new.py"])
def test_changed_and_new_files_make_it_dirty(checkout: Path, name: str) -> None:
    (checkout / name).write_text("x = 2\n")
    assert provenance.git_state(checkout) == (git(checkout, "rev-parse", "HEAD"), True)


def test_saved_benchmarks_leave_a_checkout_clean(checkout: Path) -> None:
    saved = checkout / provenance.BENCHMARKS / "layer.json"
    saved.parent.mkdir(parents=True)
    saved.write_text("{}\n")
    assert provenance.git_state(checkout) == (git(checkout, "rev-parse", "HEAD"), False)
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "benchmark")
    saved.write_text("{} \n")
    assert provenance.git_state(checkout) == (git(checkout, "rev-parse", "HEAD"), False)
    (saved.parents[1] / "other.json").write_text("{}\n")
    assert provenance.git_state(checkout) == (git(checkout, "rev-parse", "HEAD"), True)


def test_no_checkout_and_a_folder_within_one_have_no_commit(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert provenance.git_state(tmp_path_factory.mktemp("plain")) == (None, None)
    (checkout / "unpacked").mkdir()
    assert provenance.git_state(checkout / "unpacked") == (None, None)


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state(checkout) == (None, None)


def test_versions_leave_out_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("pytest", "no-such-package-here"))
    assert provenance.software_versions() == {"python": platform.python_version(), "pytest": pytest.__version__}


def test_hardware_of_this_machine() -> None:
    machine = provenance.hardware(threads=3, accelerator="Example GPU")
    assert (machine.threads, machine.accelerator) == (3, "Example GPU")
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory is None or machine.memory > 2**27


def test_cpu_model_from_cpuinfo_or_from_the_platform(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Example CPU @ 2 GHz\n")
    assert provenance._cpu_model(cpuinfo) == "Example CPU @ 2 GHz"
    assert provenance._cpu_model(tmp_path / "absent") == (platform.processor() or platform.machine())
