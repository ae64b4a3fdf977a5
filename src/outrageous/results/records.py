"""One finished run is one `record.json`: what was trained, on what, where, and what came out."""

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from outrageous.errors import UserError
from outrageous.results.decoding import decode
from outrageous.results.files import read_text, write_bytes
from outrageous.results.provenance import Hardware

SCALES = ("smoke", "pocket", "workstation", "paper")
FILE_NAME = "record.json"


@dataclass(frozen=True)
class CurvePoint:
    """Dev perplexity after `step` optimiser steps on `words` predicted training tokens."""

    step: int
    words: int
    dev_perplexity: float


@dataclass(frozen=True)
class Record:
    """One finished run.

    experiment: its preset, as in `lm/moe_32`.  row: its row of the paper's table, as in `moe_32`; None for a variation
    (a preset with other settings), which then stands in no table and is not promoted.
    metrics: `test_perplexity` always, and whatever else was measured.
    parameters: without embedding and softmax, as the paper counts; total_parameters: all.
    ops_per_timestep: multiply-adds of one token's forward pass, as the paper counts.
    words: predicted tokens.  config_hash: of the config without the seed, so that the seeds of one row share it.
    commit, dirty: as `git_state` gives them.  started_at: ISO 8601 with its offset from UTC.

    Raises UserError for an unknown scale, a metric that is not finite, and a `started_at` without offset.
    """

    experiment: str
    row: str | None
    scale: str
    seed: int
    metrics: dict[str, float]
    curve: list[CurvePoint]
    parameters: int
    total_parameters: int
    ops_per_timestep: int
    words_trained: int
    words_per_second: float
    wall_seconds: float
    config: dict[str, Any]
    config_hash: str
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    hardware: Hardware
    data_fingerprint: str
    started_at: str

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise UserError(f"scale {self.scale!r} is none of {', '.join(SCALES)}")
        if "test_perplexity" not in self.metrics:
            raise UserError("metrics lack test_perplexity: a run without it is not finished")
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise UserError(f"metric {name} is {value}: a run that diverged leaves no record")
        if _instant(self.started_at) is None:
            raise UserError(f"started_at {self.started_at!r} is not ISO 8601 with an offset from UTC")

    @property
    def when(self) -> datetime:
        """The instant at which the run started."""
        instant = _instant(self.started_at)
        assert instant is not None  # checked at the start
        return instant


def _instant(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant if instant.tzinfo is not None else None


def to_json(record: Record) -> str:
    """The text of `record.json`, ending in a newline."""
    return json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_record(record: Record, folder: Path) -> Path:
    """Write `folder/record.json` whole or not at all and return its path. Raises UserError when it cannot."""
    path = folder / FILE_NAME
    write_bytes(path, to_json(record).encode())
    return path


def read_record(path: Path) -> Record:
    """The record at `path`. Raises UserError, naming the file and the mistake, when it cannot be one."""
    text = read_text(path)
    try:
        return decode(Record, json.loads(text), "record")
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not whole JSON (line {error.lineno}: {error.msg}); delete or restore it") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}; delete it, or bring it up to this version's form") from error


def find_records(root: Path) -> list[Record]:
    """All records under `root` in the order of their paths; none if `root` does not exist."""
    return [read_record(path) for path in sorted(root.rglob(FILE_NAME))]


def reference_folder(results: Path, experiment: str, scale: str, seed: int) -> Path:
    """Where the results folder keeps a reference record, and what is kept beside it."""
    return results / "records" / experiment / scale / f"seed_{seed}"


def in_its_row(record: Record) -> Record:
    """The record under its experiment's row: in this machine's own table a variation stands there too."""
    return dataclasses.replace(record, row=row_of(record.experiment))


def row_of(experiment: str) -> str:
    """The row of an experiment's table: `lm/moe_32` is moe_32, `mt/moe_32_en_de` is mt_moe_32_en_de."""
    task, _, name = experiment.rpartition("/")
    return f"mt_{name}" if task == "mt" else name


def latest_runs(records: Iterable[Record]) -> list[Record]:
    """One record a seed for each (experiment, scale): the newest, and only of the config that ran last.

    Runs that belong to no row of a table are left out.
    """
    newest_first = sorted((record for record in records if record.row is not None), key=lambda r: r.when, reverse=True)
    config: dict[tuple[str, str], str] = {}
    chosen: dict[tuple[str, str, int], Record] = {}
    for record in newest_first:
        current = config.setdefault((record.experiment, record.scale), record.config_hash)
        if record.config_hash == current:
            chosen.setdefault((record.experiment, record.scale, record.seed), record)
    return [chosen[key] for key in sorted(chosen)]
