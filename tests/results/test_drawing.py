import pytest

from outrageous.results.drawing import count, family


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("4xlstm_512", "dense"),
        ("moe_1_wide", "dense"),
        ("moe_256", "flat mixture"),
        ("moe_256_h", "hierarchical mixture"),
        ("moe_143m", "hierarchical mixture"),
    ],
)
def test_families(row: str, expected: str) -> None:
    assert family(row) == expected


@pytest.mark.parametrize(("value", "text"), [(20_000, "20k"), (1.5e6, "1.5M"), (1e9, "1B"), (1e13, "10T"), (5, "5")])
def test_counts_on_axes(value: float, text: str) -> None:
    assert count(value) == text
