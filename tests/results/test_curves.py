from collections.abc import Callable

import pytest
from matplotlib.figure import Figure

from outrageous.results import curves
from outrageous.results.curves import learning_curves, mean_curve
from outrageous.results.records import CurvePoint, Record

MakeRecord = Callable[..., Record]


def test_mean_curve_takes_the_steps_all_seeds_have(make_record: MakeRecord) -> None:
    # Step 1: words (10 + 14)/2 = 12, perplexities 7 and 9: mean 8, variance 2. Step 2 is in one seed only.
    one = make_record(curve=[CurvePoint(1, 10, 7.0), CurvePoint(2, 20, 5.0)])
    two = make_record(curve=[CurvePoint(1, 14, 9.0)], seed=1)
    assert mean_curve([one, two]) == [(12.0, 8.0, pytest.approx(2**0.5))]
    assert mean_curve([one]) == [(10.0, 7.0, 0.0), (20.0, 5.0, 0.0)]


def test_curves_end_in_labels() -> None:
    drawn = {"moe_4": [(10.0, 90.0, 1.0), (20.0, 81.5, 0.5)], "lstm_512_512": [], "moe_32": [(20.0, 60.5, 0.0)]}
    labels = curves._draw_curves(Figure().subplots(), drawn)
    assert [(label.x, label.y, label.text) for label in labels] == [
        (20.0, 81.5, "moe_4  81.5"),
        (20.0, 60.5, "moe_32  60.5"),
    ]


@pytest.mark.parametrize(
    ("row", "line"),
    [("4xlstm_512", "--"), ("news_4xlstm_512", "--"), ("news_moe_32", "-"), ("balance_0_0", "-"), ("moe_34m", "-")],
)
def test_dense_models_are_dashed(row: str, line: str) -> None:
    axes = Figure().subplots()
    curves._draw_curves(axes, {row: [(10.0, 90.0, 1.0), (20.0, 81.5, 0.5)]})
    assert [drawn.get_linestyle() for drawn in axes.lines] == [line]


def test_learning_curves_are_the_same_every_time_and_of_the_rows_asked_for(make_record: MakeRecord) -> None:
    records = [make_record("moe_4"), make_record("moe_32")]
    first, second = (
        learning_curves("Curves: mine", {"moe_4": "moe_4"}, records, "pocket", "the command") for _ in range(2)
    )
    assert first.svg == second.svg
    assert b"Curves: mine, pocket scale" in first.svg
    assert b"moe_4  81.5" in first.svg
    assert b"moe_32" not in first.svg
    assert b"not run" not in first.svg


@pytest.mark.parametrize("row", ["moe_4", "mt_moe_512_h_en_de", "mt_multilingual_0_of_languages"])
def test_labels_end_within_the_figure(row: str, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(curves, "render", lambda figure, command: drawn.append(figure))
    record = make_record(f"row of {row}", curve=[CurvePoint(1, 1000, 900.0), CurvePoint(2, 2000, 888.8)])
    learning_curves("Curves", {f"row of {row}": row}, [record], "pocket", "the command")
    texts = [text for text in drawn[0].axes[0].texts if row in text.get_text()]
    assert len(texts) == 1
    assert texts[0].get_window_extent().x1 <= drawn[0].bbox.x1


@pytest.mark.parametrize("curve", [None, []])
def test_no_curve_says_so(make_record: MakeRecord, curve: list[CurvePoint] | None) -> None:
    records = [] if curve is None else [make_record(curve=curve)]
    assert b"not run" in learning_curves("reference", {"moe_4": "moe_4"}, records, "pocket", "the command").svg
