"""Whether training with `trainer=gpu` ends where training on a CPU in float32 does."""

import statistics
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from outrageous.config import RunConfig
from outrageous.training.run import run


def measure_agreement(ways: dict[str, list[RunConfig]]) -> dict[str, Any]:
    """ways: name to one configuration for each seed -> a row of each: the lowest dev perplexities, by seed, and
    words/s. All are trained here and now, in a folder that is deleted afterwards: a finished run may be of another
    commit. Raises UserError as `run`."""
    configs = [(way, config) for way, of_way in ways.items() for config in of_way]
    records: dict[str, list[Any]] = {way: [] for way in ways}
    with TemporaryDirectory(prefix="outrageous_agreement_") as folder:
        for way, config in tqdm(configs, "runs", disable=None):
            records[way].append(run(replace(config, paths=replace(config.paths, runs=folder)), row=None)[0])
    rows = [
        {
            "way": way,
            "precision": ways[way][0].trainer.precision,
            "seeds": [record.seed for record in of_way],
            "dev_perplexities": [record.metrics["dev_perplexity"] for record in of_way],
            "words_per_second": statistics.median(record.words_per_second for record in of_way),
        }
        for way, of_way in records.items()
    ]
    first, second = (row["dev_perplexities"] for row in rows)
    some = next(iter(ways.values()))[0]
    return {
        "experiment": some.name,
        "scale": some.scale.name,
        "num_steps": some.trainer.max_steps,
        "rows": rows,
        "difference": statistics.mean(second) - statistics.mean(first),
        "spread": max(first) - min(first),
    }
