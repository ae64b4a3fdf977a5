"""From plain JSON values to typed dataclasses, with a message that says where the first mistake is."""

import dataclasses
import math
import types
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def decode(kind: type[T], value: object, where: str) -> T:
    """`value`, as read from JSON, as an instance of the dataclass `kind`.

    `where` names the value in messages. Understands fields of type str, bool, int, float, Any, `X | None`,
    `list[X]`, `dict[str, X]` and dataclasses. Raises ValueError for a missing or unknown key, a wrong type, and a
    float that is NaN or infinite.
    """
    result: T = _decode(kind, value, where)
    return result


def _decode(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if isinstance(kind, types.UnionType):  # X | None
        return None if value is None else _decode(get_args(kind)[0], value, where)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list and isinstance(value, list):
        return [_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, not a finite number")
        return float(value)
    if type(value) is kind:  # exactly: True is no int here
        return value
    raise ValueError(f"{where} should be {getattr(kind, '__name__', kind)}, not {value!r:.60}")


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} should be an object, not {value!r:.60}")
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    if missing := [name for name in names if name not in value]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if unknown := [name for name in value if name not in names]:
        raise ValueError(f"{where} has unknown keys: {', '.join(unknown)}")
    return kind(**{name: _decode(hints[name], value[name], f"{where}.{name}") for name in names})
