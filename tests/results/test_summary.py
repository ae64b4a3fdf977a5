import dataclasses
import math
from collections.abc import Callable

import pytest

from outrageous.errors import UserError
from outrageous.results.records import CurvePoint, Record
from outrageous.results.summary import DEV_AFTER_A_TENTH, summarise

MakeRecord = Callable[..., Record]


def test_mean_and_sample_standard_deviation(make_record: MakeRecord) -> None:
    # 70, 72, 77: mean 219/3 = 73; deviations -3, -1, 4; variance (9 + 1 + 16)/2 = 13.
    records = [make_record(perplexity=value, seed=seed) for seed, value in enumerate((70.0, 72.0, 77.0))]
    summary = summarise(records, "pocket")["moe_4"]
    assert summary.perplexity.mean == pytest.approx(73.0)
    assert summary.perplexity.spread == pytest.approx(math.sqrt(13.0))
    assert (summary.perplexity.num_seeds, summary.parameters, summary.ops_per_timestep) == (3, 131000, 131000)
    assert str(summary.perplexity) == "73.00 ± 3.61 (3)"


def test_one_seed_has_no_spread(make_record: MakeRecord) -> None:
    perplexity = summarise([make_record()], "pocket")["moe_4"].perplexity
    assert perplexity.spread is None
    assert str(perplexity) == "80.00 (1)"


def test_a_metric_counts_where_every_seed_measured_it(make_record: MakeRecord) -> None:
    # CV(Load) 0.04 and 0.08: mean 0.06. Only one seed has padding.
    records = [
        make_record(metrics={"test_perplexity": 80.0, "cv_load": 0.04, "padding": 0.1}),
        make_record(seed=1, metrics={"test_perplexity": 80.0, "cv_load": 0.08}),
    ]
    metrics = summarise(records, "pocket")["moe_4"].metrics
    assert metrics["cv_load"].mean == pytest.approx(0.06)
    assert "padding" not in metrics


# A tenth of 20,000 words is 2,000, give or take 40.
@pytest.mark.parametrize(("words", "measured"), [(1960, True), (2040, True), (1959, False), (2041, False)])
def test_dev_perplexity_after_a_tenth_is_that_of_a_point_there(
    make_record: MakeRecord, words: int, measured: bool
) -> None:
    curve = [CurvePoint(1, words, 70.5), CurvePoint(2, 20_000, 50.0)]
    metrics = summarise([make_record(curve=curve, words_trained=20_000)], "pocket")["moe_4"].metrics
    assert (DEV_AFTER_A_TENTH in metrics) is measured
    if measured:
        assert metrics[DEV_AFTER_A_TENTH].mean == 70.5


def test_scales_and_variations_stay_apart(make_record: MakeRecord) -> None:
    records = [
        make_record(),
        make_record(scale="paper", perplexity=40.0),
        dataclasses.replace(make_record("moe_32"), row=None),
    ]
    assert {row: summary.perplexity.mean for row, summary in summarise(records, "paper").items()} == {"moe_4": 40.0}
    assert summarise(records, "smoke") == {}


def test_different_configs_are_not_one_row(make_record: MakeRecord) -> None:
    records = [make_record(seed=0, config_hash="aaa"), make_record(seed=1, config_hash="bbb")]
    with pytest.raises(UserError, match=r"moe_4 at scale pocket have different configs.*aaa.*bbb"):
        summarise(records, "pocket")
