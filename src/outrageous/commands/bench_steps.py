"""The benchmarks of batching and of whole training steps."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrageous.commands.bench_sizes import as_json, experiments_of, save
from outrageous.errors import UserError

if TYPE_CHECKING:
    from outrageous.config import RunConfig

SHORT = ("trainer.max_steps=200", "trainer.validate_every=200")  # what runs are compared after


def bench_batching(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """Batches from the packed corpus, no model."""
    from outrageous.data.corpus import prepare_corpus
    from outrageous.training.benchmark import batching_speed
    from outrageous.training.libraries import set_up_cpu

    set_up_cpu(arguments.threads)
    config, *_ = _configs(arguments.scale, settings, default="lm/moe_1_wide")
    corpus = prepare_corpus(config.data, Path(config.paths.corpora))
    content["figures"] = batching_speed(corpus, config.trainer.words_per_batch, arguments.rounds)
    for name, value in content["figures"].items():
        print(f"{name:45} {value:,.0f}" if value > 100 else f"{name:45} {value:.4f}")
    return {f"batching_{arguments.scale}.json": as_json(content)}


def bench_step(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """Whole training steps, alternately; what has been measured is saved where a later turn ends the process."""
    from outrageous.data.corpus import prepare_corpus
    from outrageous.results.step_table import step_markdown
    from outrageous.training.settings import check_device
    from outrageous.training.step_benchmark import measure_steps

    configs = _configs(arguments.scale, settings)
    for config in configs:
        check_device(config.trainer)
    prepare_corpus(configs[0].data, Path(configs[0].paths.corpora))  # once, before several look for it
    savings = [setting.removeprefix("savings=") for setting in settings if setting.startswith("savings=")]
    name = "_".join(["step", arguments.scale, *savings])
    files: dict[str, bytes] = {}
    for content["figures"] in measure_steps(configs, arguments.rounds, arguments.threads):
        files = {f"{name}.json": as_json(content), f"{name}.md": step_markdown(content).encode()}
        if arguments.save:
            save(files)
    print(step_markdown(content), end="")
    return files


def bench_fit(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """Steps of the paper's models within a GPU's memory, and what was predicted; what has been measured is saved where
    the next model ends the process."""
    from tqdm import tqdm

    from outrageous.commands.audit import vocabulary_of
    from outrageous.commands.compose import any_config
    from outrageous.commands.one_gpu import MODELS, settings_of
    from outrageous.results.fit_table import fit_markdown
    from outrageous.training.fit_benchmark import measure_fit

    experiments, others = experiments_of(settings)
    rows: list[dict[str, Any]] = []
    content["figures"] = {"rows": rows}
    files: dict[str, bytes] = {}
    name = f"fit_{arguments.scale}"
    for experiment in tqdm(experiments or MODELS, "models", disable=None):
        chosen = [f"scale={arguments.scale}", "trainer=gpu", *settings_of(experiment), *others]
        config = any_config([f"experiment={experiment}", *chosen])
        rows.append(measure_fit(config, vocabulary_of(config), arguments.threads))
        files = {f"{name}.json": as_json(content), f"{name}.md": fit_markdown(content).encode()}
        if arguments.save:
            save(files)
    print(fit_markdown(content), end="")
    return files


def bench_agreement(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """Short runs of some seeds, on a CPU in float32 and with trainer=gpu; where there is no GPU, the latter on a CPU
    too."""
    import torch

    from outrageous.commands.compose import run_config
    from outrageous.results.agreement_table import agreement_markdown
    from outrageous.training.agreement_benchmark import measure_agreement

    experiments, others = experiments_of(settings)
    if len(experiments) > 1:
        raise UserError(f"agreement: one experiment, not {','.join(experiments)}")
    common = [f"experiment={(experiments or ['lm/moe_32'])[0]}", f"scale={arguments.scale}", *SHORT, *others]
    there = torch.cuda.is_available()
    ways = {
        "CPU": ["trainer.accelerator=cpu"],
        "GPU" if there else "CPU, trainer=gpu": ["trainer=gpu", *([] if there else ["trainer.accelerator=cpu"])],
    }
    content["figures"] = measure_agreement(
        {
            way: [run_config([*common, *overrides, f"seed={seed}"]) for seed in range(arguments.rounds)]
            for way, overrides in ways.items()
        }
    )
    text = agreement_markdown(content)
    print(text, end="")
    return {"agreement.json": as_json(content), "agreement.md": text.encode()}


def _configs(scale: str, settings: list[str], default: str | None = None) -> list["RunConfig"]:
    """The configurations of the experiments that the settings name. Raises UserError if there is none."""
    from outrageous.commands.compose import run_config

    experiments, others = experiments_of(settings)
    if not experiments and default is None:
        raise UserError("step: name the experiments to compare, such as experiment=lm/moe_1_wide,lm/moe_32")
    names = experiments or [str(default)]
    return [run_config([f"experiment={name}", f"scale={scale}", *others]) for name in names]
