"""What benchmarks read and write: sizes on the command line, as `experts=4,32 tokens=2048`, and JSON."""

import json
import math
from pathlib import Path
from typing import Any

from outrageous.errors import UserError

SIZES = {
    "layer": {"experts": [4, 32, 256, 1024], "tokens": [2048, 8192], "d_model": [512], "d_hidden": [1024], "k": [4]},
    "cost": {"experts": [16, 64, 256, 1024], "tokens": [8192], "d_model": [512], "d_hidden": [1024], "k": [4]},
    "products": {"experts": [16, 64], "rows": [300, 1000], "d_model": [512], "d_hidden": [1024]},
    "memory": {"experts": [256], "tokens": [2048], "d_model": [512], "d_hidden": [1024], "k": [4]},
    "decoding": {"lengths": [10, 20, 40, 80], "beams": [1, 4, 10], "sentences": [32], "source": [20]},
    "feedback": {"lengths": [10, 20, 40], "pairs": [40], "source": [25]},
    "data": {"words": [40_000_000, 120_000_000, 330_000_000], "types": [800_000]},
    "scaling": {
        "words": [4096],
        "processes": [1, 2, 4, 8],
        "devices": [1, 4, 16, 64, 256],
        "tflops": [10],
        "gbps": [10],
        "us": [50],
    },
    "vocabulary": {"types": [793_471], "tokens": [2048], "d_model": [512], "sampled": [8192]},
}


def read_sizes(what: str, settings: list[str]) -> dict[str, list[int]]:
    """The sizes of `what`, as the settings change them: those with several values here may have several."""
    sizes = dict(SIZES[what])
    for setting in settings:
        name, equals, value = setting.partition("=")
        if name not in sizes or not equals:
            raise UserError(f"{what}: {setting} is no size; give {', '.join(f'{known}=…' for known in sizes)}")
        numbers = value.split(",")
        if not all(number.isdecimal() and int(number) > 0 for number in numbers):
            raise UserError(f"{setting}: needs positive whole numbers, separated by commas")
        if len(numbers) > 1 and len(SIZES[what][name]) == 1:
            raise UserError(f"{setting}: one number only")
        sizes[name] = [int(number) for number in numbers]
    if "k" not in sizes:
        return sizes
    if sizes["k"][0] > min(sizes["experts"]):
        raise UserError(f"k={sizes['k'][0]} experts a token, but experts={min(sizes['experts'])}: lower k")
    if what == "cost" and math.isqrt(sizes["k"][0]) ** 2 != sizes["k"][0]:
        raise UserError(f"k={sizes['k'][0]}: a hierarchy of two equal levels needs a square, such as k=4")
    return sizes


def experiments_of(settings: list[str]) -> tuple[list[str], list[str]]:
    """The experiments that settings as outrageous-train takes them name, experiment=lm/moe_4,lm/moe_32, and the others.
    Raises UserError if one is no setting."""
    for setting in settings:
        if "=" not in setting:
            raise UserError(f"{setting}: settings are written KEY=VALUE, such as experiment=lm/moe_4,lm/moe_32")
    named = [setting for setting in settings if setting.startswith("experiment=")]
    experiments = [name for setting in named for name in setting.removeprefix("experiment=").split(",")]
    return experiments, [setting for setting in settings if setting not in named]


def save(files: dict[str, bytes]) -> None:
    """Writes them to results/benchmarks/, in place of what was there. Raises UserError where that fails."""
    from outrageous.results.files import write_bytes
    from outrageous.results.provenance import BENCHMARKS

    for name, data in files.items():
        write_bytes(Path(BENCHMARKS) / name, data)


def as_json(content: dict[str, Any]) -> bytes:
    """What is saved of a benchmark, as a file."""
    return (json.dumps(content, indent=1) + "\n").encode()
