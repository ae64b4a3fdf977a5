"""What is fetched is what the data configurations read."""

from pathlib import Path

import pytest
from loopback import Loopback
from omegaconf import OmegaConf

from data_prep.__main__ import main
from outrageous.config import CorpusConfig, ParallelCorpusConfig
from outrageous.data.corpus import prepare_corpus
from outrageous.data.hub_pairs import HubPairs

CONF = Path(__file__).parents[2] / "conf" / "data"


@pytest.mark.slow  # counting and packing are done by processes that take long to start
def test_one_billion_word_is_read_from_the_shards(server: Loopback, archives: Path, tmp_path: Path) -> None:
    """Three lines of each of 99 shards, and of the dev and the test shard; their words counted by split()."""
    main(["lm1b", "--to", str(tmp_path), "--mirror", server.url], archives / "sources.yaml")
    written = (CONF / "lm1b.yaml").read_text(encoding="utf-8").replace("outputs/downloads", str(tmp_path))
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(CorpusConfig), OmegaConf.create(written)))
    assert isinstance(config, CorpusConfig)
    parts = prepare_corpus(config, tmp_path / "corpora").meta["parts"]
    assert {part: counts["sentences"] for part, counts in parts.items()} == {"train": 297, "dev": 3, "test": 3}
    folder = tmp_path / "lm1b" / "heldout-monolingual.tokenized.shuffled"
    for part, number in (("dev", 1), ("test", 0)):
        words = (folder / f"news.en.heldout-0000{number}-of-00050").read_text(encoding="utf-8").split()
        assert parts[part]["predicted_tokens"] == len(words) + 3


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
