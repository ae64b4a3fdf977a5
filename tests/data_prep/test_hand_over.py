"""What is fetched is what the data configurations read."""

from pathlib import Path

import pytest
from loopback import Loopback
from omegaconf import OmegaConf

from data_prep.__main__ import main
from outrageous.config import ParallelCorpusConfig
from outrageous.data.hub_pairs import HubPairs

CONF = Path(__file__).parents[2] / "conf" / "data"


def test_wmt14_is_read_from_the_paired_files_and_the_installed_sets(
    monkeypatch: pytest.MonkeyPatch, server: Loopback, archives: Path, tmp_path: Path
) -> None:
    """Three lines of three archives; newstest2012, 2013 and 2014 whole."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    to = tmp_path / "downloads"
    main(["wmt14", "--pair", "en-de", "--to", str(to), "--mirror", server.url], archives / "sources.yaml")
    written = OmegaConf.load(CONF / "wmt14_en_de.yaml")
    ours = {"path": str(to / "wmt14" / "pairs"), "hub": {"num_pairs": 9}}
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ParallelCorpusConfig), written, ours))
    assert isinstance(config, ParallelCorpusConfig)
    assert config.hub is not None
    parts = [part for part, _ in HubPairs(config, config.hub).rows()]
    assert {part: parts.count(part) for part in set(parts)} == {"train": 9, "dev": 3003 + 3000, "test": 3003}
