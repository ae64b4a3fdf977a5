from dataclasses import dataclass
from typing import Any

import pytest

from outrageous.results.decoding import decode


@dataclass(frozen=True)
class Inner:
    count: int


@dataclass(frozen=True)
class Outer:
    name: str
    ratio: float
    flag: bool | None
    inner: list[Inner]
    anything: dict[str, Any]


def values(**changes: Any) -> dict[str, Any]:
    return {"name": "n", "ratio": 1, "flag": None, "inner": [{"count": 2}], "anything": {"x": [1, None]}, **changes}


def test_nested_values() -> None:
    outer = decode(Outer, values(), "outer")
    assert outer == Outer("n", 1.0, None, [Inner(2)], {"x": [1, None]})
    assert isinstance(outer.ratio, float)
    assert decode(Outer, values(flag=True), "outer").flag is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "outer.name should be str, not 3"),
        ({"ratio": "1"}, "outer.ratio should be float, not '1'"),
        ({"ratio": True}, "outer.ratio should be float, not True"),
        ({"ratio": float("nan")}, "outer.ratio is nan, not a finite number"),
        ({"flag": 0}, "outer.flag should be bool, not 0"),
        ({"inner": {}}, "outer.inner should be list"),
        ({"inner": [{"count": True}]}, r"outer.inner\[0\].count should be int, not True"),
        ({"inner": [{"count": 1.0}]}, r"outer.inner\[0\].count should be int, not 1.0"),
        ({"inner": [7]}, r"outer.inner\[0\] should be an object, not 7"),
        ({"inner": [{}]}, r"outer.inner\[0\] lacks count"),
        ({"extra": 1}, "outer has unknown keys: extra"),
    ],
)
def test_the_first_mistake_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(Outer, values(**changes), "outer")
