"""Miniature archives, made once, and a server of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Loopback, serve
from miniature import make_archives
from sacrebleu.dataset import DATASETS

from data_prep.sources import Source, read_sources


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """149 times a corpus; the commands that tests start do wait."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def sacrebleu_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for sacrebleu's sets that is not the user's."""
    home = tmp_path / "sacrebleu"
    for name in ("wmt12", "wmt13", "wmt14/full"):
        monkeypatch.setattr(DATASETS[name], "_outdir", str(home / name))
        monkeypatch.setattr(DATASETS[name], "_rawdir", str(home / name / "raw"))
    return home


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of miniature archives with their sources.yaml; addresses are replaced by --mirror."""
    folder = tmp_path_factory.mktemp("archives")
    make_archives(folder, "http://published.invalid/some/folder")
    return folder


@pytest.fixture
def server(archives: Path) -> Iterator[Loopback]:
    with serve(archives) as running:
        yield running


@pytest.fixture(scope="session")
def sources(archives: Path) -> dict[str, list[Source]]:
    return read_sources(archives / "sources.yaml")


@pytest.fixture(scope="session")
def lm1b(sources: dict[str, list[Source]]) -> Source:
    return sources["lm1b"][0]
