"""The benchmarks of batching and of whole training steps."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrageous.commands.bench_sizes import as_json
from outrageous.errors import UserError

if TYPE_CHECKING:
    from outrageous.config import RunConfig


def bench_batching(
    content: dict[str, Any], arguments: argparse.Namespace, experiments: list[str], settings: list[str]
) -> dict[str, bytes]:
    """Batches from the packed corpus, no model."""
    from outrageous.data.corpus import prepare_corpus
    from outrageous.training.benchmark import batching_speed
    from outrageous.training.libraries import set_up_cpu

    set_up_cpu(arguments.threads)
    scale, (config, *_) = _configs(arguments.scale, experiments or ["lm/moe_1_wide"], settings)
    corpus = prepare_corpus(config.data, Path(config.paths.corpora))
    content["figures"] = batching_speed(corpus, config.trainer.words_per_batch, arguments.rounds)
    for name, value in content["figures"].items():
        print(f"{name:45} {value:,.0f}" if value > 100 else f"{name:45} {value:.4f}")
    return {f"batching_{scale}.json": as_json(content)}


def bench_step(
    content: dict[str, Any], arguments: argparse.Namespace, experiments: list[str], settings: list[str]
) -> dict[str, bytes]:
    """Whole training steps, alternately."""
    from outrageous.data.corpus import prepare_corpus
    from outrageous.results.step_table import step_markdown
    from outrageous.training.step_benchmark import measure_steps

    scale, configs = _configs(arguments.scale, experiments, settings)
    prepare_corpus(configs[0].data, Path(configs[0].paths.corpora))  # once, before several look for it
    content["figures"] = measure_steps(configs, arguments.rounds, arguments.threads)
    text = step_markdown(content)
    print(text, end="")
    return {f"step_{scale}.json": as_json(content), f"step_{scale}.md": text.encode()}


def _configs(scale: str, experiments: list[str], settings: list[str]) -> tuple[str, list["RunConfig"]]:
    """The name of the scale, and the configurations of the experiments; both may also be named as outrageous-train
    takes them, scale=paper experiment=lm/moe_4,lm/moe_32. Raises UserError if there is no experiment."""
    from outrageous.commands.compose import run_config

    others = []
    for setting in settings:
        name, _, value = setting.partition("=")
        if name == "experiment":
            experiments = [*experiments, *value.split(",")]
        elif name == "scale":
            scale = value
        else:
            others.append(setting)
    if not experiments:
        raise UserError("step: name the experiments to compare, such as lm/moe_1_wide lm/moe_32")
    return scale, [run_config([f"experiment={experiment}", f"scale={scale}", *others]) for experiment in experiments]
