"""Small texts and packed sentences, and the shipped corpus prepared once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from outrageous.config import CorpusConfig, ParallelCorpusConfig
from outrageous.data.corpus import Corpus, prepare_corpus
from outrageous.data.packing import PackedSentences, write_packed


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def load_config(repository: Path) -> Callable[..., CorpusConfig]:
    """A function that reads a config of conf/data as a command would, checked against the dataclass."""

    def load(name: str, **overrides: object) -> CorpusConfig:
        schema = OmegaConf.structured(CorpusConfig)
        written = OmegaConf.load(repository / "conf" / "data" / f"{name}.yaml")
        config = OmegaConf.to_object(OmegaConf.merge(schema, written, OmegaConf.create(overrides)))
        assert isinstance(config, CorpusConfig)
        return config

    return load


@pytest.fixture(scope="session")
def load_parallel(repository: Path) -> Callable[..., ParallelCorpusConfig]:
    """The same for pairs of sentences."""

    def load(name: str, **overrides: object) -> ParallelCorpusConfig:
        schema = OmegaConf.structured(ParallelCorpusConfig)
        written = OmegaConf.load(repository / "conf" / "data" / f"{name}.yaml")
        config = OmegaConf.to_object(OmegaConf.merge(schema, written, OmegaConf.create(overrides)))
        assert isinstance(config, ParallelCorpusConfig)
        return config

    return load


@pytest.fixture(scope="session")
def pocket_config(load_config: Callable[..., CorpusConfig], repository: Path) -> CorpusConfig:
    config = load_config("pocket_english")
    config.path = [str(repository / path) for path in config.path]
    return config


@pytest.fixture(scope="session")
def pocket(pocket_config: CorpusConfig, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepare_corpus(pocket_config, tmp_path_factory.mktemp("pocket"))


@pytest.fixture
def write_text(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes lines to a file."""

    def write(*lines: str, name: str = "text.txt") -> Path:
        file = tmp_path / name
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return file

    return write


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PackedSentences]:
    """A function that packs sentences into a file of its own; <s> is 99."""

    def pack_sentences(sentences: list[list[int]], rows_per_chunk: int = 1 << 16) -> PackedSentences:
        file = tmp_path_factory.mktemp("packed") / "sentences.arrow"
        write_packed(file, sentences, rows_per_chunk)
        return PackedSentences(file, bos_id=99)

    return pack_sentences
