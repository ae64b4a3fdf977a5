"""Where a run leaves its files. The same settings on the same data lead to the same folder, so a command that is given
again finds what it has done already."""

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from outrageous.config import AnyRunConfig, Strategy, corpus_identity, settings_identity
from outrageous.results.samples import EXPERTS, TRANSLATIONS


@dataclass(frozen=True)
class RunFolder:
    """`<runs>/<experiment>/<scale>/seed_<n>/<hash of settings and data>/`"""

    path: Path

    @property
    def record(self) -> Path:
        """Written last: a run with a record is finished."""
        return self.path / "record.json"

    @property
    def last_checkpoint(self) -> Path:
        """The whole state of training, to go on from."""
        return self.path / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """Weights with the lowest dev perplexity so far."""
        return self.path / "best.ckpt"

    @property
    def vocabulary(self) -> Path:
        """The model's words, beside its checkpoints: to evaluate them on another text."""
        return self.path / "vocabulary.txt"

    @property
    def wordpieces(self) -> Path:
        """Those of a translation model, which outrageous-translate reads."""
        return self.path / "wordpieces.model"

    def translations(self, direction: str) -> Path:
        """Sources, references and translations of the test part of one direction."""
        return self.path / TRANSLATIONS.format(direction=direction)

    @property
    def experts_text(self) -> Path:
        """The contexts that each expert is chosen for most."""
        return self.path / EXPERTS

    @property
    def experts_page(self) -> Path:
        """The same, for a browser."""
        return self.path / "experts.html"

    @property
    def trace(self) -> Path:
        """Of some training steps, where these were to be traced."""
        return self.path / "trace.json.gz"

    @property
    def progress(self) -> Path:
        """How far the run is, for whoever watches several."""
        return self.path / "progress.json"


_PROCESSES = ("devices", "num_nodes", "timeout", "sharded_checkpoints")  # change no result


def run_folder(config: AnyRunConfig, data_fingerprint: str) -> RunFolder:
    parts = (config.name, config.scale.name, f"seed_{config.seed}", config_hash(config, data_fingerprint))
    return RunFolder(Path(config.paths.runs).joinpath(*parts))


def plain_config(config: AnyRunConfig) -> dict[str, Any]:
    """The settings as JSON-ready values."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config), default=_plain))
    return plain


def config_hash(config: AnyRunConfig, data_fingerprint: str) -> str:
    """Of all settings that change a result: not where files lie, who watches, or how many threads and processes
    compute. Without the seed too, so that the seeds of one setting share it."""
    settings = settings_identity(plain_config(config))
    for name in ("seed", "paths", "logger"):
        del settings[name]
    settings["data"] = corpus_identity(settings["data"])
    for name in ("name", "path", "dev_path", "test_path"):
        settings["data"].pop(name, None)  # the fingerprint stands for the files
    for name in ("num_threads", "eval_words_per_batch", "log_every", "profile", *_PROCESSES):
        settings["trainer"].pop(name, None)
    if settings["trainer"].get("strategy") == Strategy.single.value:  # as before there were others
        del settings["trainer"]["strategy"]
    content = json.dumps([settings, data_fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def _plain(value: object) -> str:
    assert isinstance(value, Enum), f"{value!r} is not a setting"
    return str(value.value)
