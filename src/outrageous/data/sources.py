"""What a corpus is made from, by its source: the files, what identifies them, and who builds from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from outrageous.config import CorpusConfig, Source, corpus_identity
from outrageous.data.build import build_corpus
from outrageous.data.hashes import sha256_of
from outrageous.data.hub import fetch
from outrageous.data.news import NEWS_FILE, fetch_news
from outrageous.data.one_billion_word import NAME, check_counts, check_files, is_published
from outrageous.data.prepared import Steps
from outrageous.data.sharded_build import Parts, build_from_shards, steps_to_shards
from outrageous.data.synthetic import build_synthetic
from outrageous.data.text import find_files
from outrageous.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """How to make a corpus.

    Attributes:
        identity: plain values that say all of what is made: settings, and the bytes of the files.
        build: makes it in the folder that it is given, and returns its counts.
        steps: of a build that goes on with what an interrupted call left there; as `prepare_once` takes it.
    """

    identity: dict[str, Any]
    build: Callable[[Path], dict[str, Any]]
    steps: Steps | None = None


def find_recipe(config: CorpusConfig, folder: Path, given_vocabulary: bool) -> Recipe:
    """Raises UserError if what the settings name is not there.

    Args:
        folder: of the prepared corpora.
        given_vocabulary: words will be numbered by a vocabulary from elsewhere.
    """
    if config.source is Source.shards:
        return _shards(config, folder, given_vocabulary)
    recipes = {Source.lines: _lines, Source.hub: _hub, Source.news: _news, Source.synthetic: _synthetic}
    return recipes[config.source](config, folder)


def _lines(config: CorpusConfig, folder: Path) -> Recipe:
    files = find_files(config.path)
    identity = _settings(config) | {"path": sha256_of(files, folder)}
    return Recipe(identity, lambda part: build_corpus(config, files, part))


def _shards(config: CorpusConfig, folder: Path, given_vocabulary: bool) -> Recipe:
    paths = {"path": "train", "dev_path": "dev", "test_path": "test"}
    try:
        parts: Parts = {
            part: find_files(getattr(config, setting), f"data.{setting}") for setting, part in paths.items()
        }
    except UserError as error:
        if config.name == NAME:
            error.add_note("`make data-lm1b` fetches One Billion Word")
        raise

    def build(part: Path) -> dict[str, Any]:
        published = is_published(config, list(parts["test"].values()))
        if published:
            check_files(parts["train"])
        meta = build_from_shards(config, parts, part)
        if published:
            check_counts(config, meta, given_vocabulary)
        return meta

    hashes = {setting: sha256_of(parts[part], folder) for setting, part in paths.items()}
    return Recipe(_settings(config) | hashes, build, steps_to_shards)


def _hub(config: CorpusConfig, folder: Path) -> Recipe:
    if not isinstance(config.path, str) or config.column is None:
        raise UserError("data.source=hub: give the dataset and the column of its text, data.path=… data.column=…")
    identity = _settings(config)
    if Path(config.path).is_dir():
        identity["path"] = sha256_of(find_files(f"{config.path}/**"), folder)
    return Recipe(identity, lambda part: build_from_shards(config, fetch(config, part), part), steps_to_shards)


def _news(config: CorpusConfig, folder: Path) -> Recipe:
    def build(part: Path) -> dict[str, Any]:
        return build_corpus(config, {NEWS_FILE: fetch_news(config.path, part)}, part)

    return Recipe(_settings(config), build)


def _synthetic(config: CorpusConfig, folder: Path) -> Recipe:
    return Recipe(_settings(config), lambda part: build_synthetic(config, part))


def _settings(config: CorpusConfig) -> dict[str, Any]:
    return corpus_identity(asdict(config) | {"source": config.source.value})
