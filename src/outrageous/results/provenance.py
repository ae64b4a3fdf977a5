"""Where a result comes from: the commit, the software and the machine. Free of torch."""

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGES = (
    "outrageous",
    "torch",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "datasets",
    "numpy",
    "sacremoses",
    "wandb",
)

BENCHMARKS = "results/benchmarks"  # where `outrageous-bench --save` writes, from the root of a checkout


@dataclass(frozen=True)
class Hardware:
    """The machine of a run: `cores` this process may use, `threads` it did use, memory in bytes."""

    cpu: str
    cores: int
    threads: int
    accelerator: str | None
    memory: int | None


def git_state(repository: Path) -> tuple[str | None, bool | None]:
    """(commit, dirty) of the checkout whose root is `repository`; (None, None) where that is no git checkout.

    Dirty means that tracked files differ from the commit or that files neither tracked nor ignored lie about, saved
    benchmarks apart: they are made by the code and no part of it, and one would make the next dirty.
    Call it as a run starts: the files may change while it lasts.
    """
    root = _git(repository, "rev-parse", "--show-toplevel")
    # An unpacked archive inside somebody else's checkout must not claim that checkout's commit.
    if root is None or Path(root).resolve() != repository.resolve():
        return None, None
    commit = _git(repository, "rev-parse", "--verify", "HEAD")
    changes = _git(repository, "status", "--porcelain", "--", ".", f":(exclude){BENCHMARKS}")
    if commit is None or changes is None:
        return None, None
    return commit, changes != ""


def _git(repository: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(repository), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def software_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that can move a result."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hardware(threads: int, accelerator: str | None) -> Hardware:
    """This machine. `threads` used and the accelerator's name (None: CPU only) are the caller's to know."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS or Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return Hardware(cpu=_cpu_model(), cores=cores, threads=threads, accelerator=accelerator, memory=_memory())


def _cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
