import dataclasses
import math
from collections.abc import Callable

import pytest

from outrageous.errors import UserError
from outrageous.results.records import Record
from outrageous.results.summary import summarise

MakeRecord = Callable[..., Record]


def test_mean_and_sample_standard_deviation(make_record: MakeRecord) -> None:
    # 70, 72, 77: mean 219/3 = 73; deviations -3, -1, 4; variance (9 + 1 + 16)/2 = 13.
    records = [make_record(perplexity=value, seed=seed) for seed, value in enumerate((70.0, 72.0, 77.0))]
    summary = summarise(records, "pocket")["moe_4"]
    assert summary.perplexity == pytest.approx(73.0)
    assert summary.spread == pytest.approx(math.sqrt(13.0))
    assert (summary.num_seeds, summary.parameters, summary.ops_per_timestep) == (3, 131000, 131000)


def test_one_seed_has_no_spread(make_record: MakeRecord) -> None:
    assert summarise([make_record()], "pocket")["moe_4"].spread is None


def test_scales_and_variations_stay_apart(make_record: MakeRecord) -> None:
    records = [
        make_record(),
        make_record(scale="paper", perplexity=40.0),
        dataclasses.replace(make_record("moe_32"), row=None),
    ]
    assert {row: summary.perplexity for row, summary in summarise(records, "paper").items()} == {"moe_4": 40.0}
    assert summarise(records, "smoke") == {}


def test_different_configs_are_not_one_row(make_record: MakeRecord) -> None:
    records = [make_record(seed=0, config_hash="aaa"), make_record(seed=1, config_hash="bbb")]
    with pytest.raises(UserError, match=r"moe_4 at scale pocket have different configs.*aaa.*bbb"):
        summarise(records, "pocket")
