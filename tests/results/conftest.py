"""Made-up records."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outrageous.results.records import Record, read_record

MakeRecord = Callable[..., Record]


@pytest.fixture
def make_record() -> MakeRecord:
    """`make_record("moe_32", seed=1, perplexity=75.0, …)`: the sample record with changes."""
    sample = read_record(Path(__file__).parent / "sample_record.json")

    def make(row: str = "moe_4", perplexity: float = 80.0, **changes: Any) -> Record:
        values = {"row": row, "experiment": f"lm/{row}", "metrics": {"test_perplexity": perplexity}, **changes}
        return dataclasses.replace(sample, **values)

    return make


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of the paper's tables, as committed."""
    return Path(__file__).parents[2] / "results" / "published"
