"""Measure speed.

python -m outrageous.commands.bench batching                       batches from the packed corpus, no model
python -m outrageous.commands.bench step lm/moe_1_wide lm/moe_32   whole training steps, alternately
python -m outrageous.commands.bench layer                          one MoE layer, what bounds it, other packages' layers
python -m outrageous.commands.bench cost                           one layer against the number of experts
python -m outrageous.commands.bench memory                         what each memory saving of appendix D saves and costs
python -m outrageous.commands.bench data                           corpora prepared and read: three sizes, up to 1.7 GB
python -m outrageous.commands.bench vocabulary                     a step with 793,471 words, by the tables' optimizer

Prints medians and ratios; --save also writes them to results/benchmarks/, with commit, versions and hardware. Further
arguments with = are settings: for batching and step as outrageous-train takes them, for the others sizes, such as
experts=4,32 tokens=2048,8192 d_model=512 d_hidden=1024 k=4.

`data` needs 7 GB under outputs/ while it runs, and perhaps 15 to 40 minutes on two idle cores; `vocabulary` needs 16 GB
of memory and perhaps 5 to 15 minutes: neither has been timed at these sizes. Smaller: data words=2000000,4000000
types=50000; vocabulary types=50000 tokens=512.
"""

import argparse
import json
import math
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from outrageous.commands.errors import one_clear_message
from outrageous.errors import UserError

ROUNDS = {"batching": 5, "step": 30, "layer": 3, "cost": 3, "memory": 5, "data": 1, "vocabulary": 3}
SIZES = {
    "layer": {"experts": [4, 32, 256, 1024], "tokens": [2048, 8192], "d_model": [512], "d_hidden": [1024], "k": [4]},
    "cost": {"experts": [16, 64, 256, 1024], "tokens": [8192], "d_model": [512], "d_hidden": [1024], "k": [4]},
    "memory": {"experts": [256], "tokens": [2048], "d_model": [512], "d_hidden": [1024], "k": [4]},
    "data": {"words": [40_000_000, 120_000_000, 330_000_000], "types": [800_000]},
    "vocabulary": {"types": [793_471], "tokens": [2048], "d_model": [512], "sampled": [8192]},
}


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 when measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(ROUNDS))
    parser.add_argument("arguments", nargs="*", help="experiments and settings")
    parser.add_argument("--scale", default="pocket", help="a file under conf/scale (default: pocket)")
    rounds = ", ".join(f"{number} for {what}" for what, number in ROUNDS.items())
    parser.add_argument("--rounds", type=int, help=f"turns of each, or epochs (default: {rounds})")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--save", action="store_true", help="write to results/benchmarks/ too")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.rounds is None:
        arguments.rounds = ROUNDS[arguments.what]
    if arguments.rounds < 1 or arguments.threads < 1:
        raise UserError(f"--rounds {arguments.rounds} --threads {arguments.threads}: both must be at least 1")
    experiments = [argument for argument in arguments.arguments if "=" not in argument]
    settings = [argument for argument in arguments.arguments if "=" in argument]
    if arguments.what == "step" and not experiments:
        raise UserError("step: name the experiments to compare, such as lm/moe_1_wide lm/moe_32")
    measure = {
        "batching": _batching,
        "step": _step,
        "layer": _layer,
        "cost": _cost,
        "memory": _memory,
        "data": _data,
        "vocabulary": _vocabulary,
    }[arguments.what]
    content = _origin(arguments, sys.argv[1:] if argv is None else argv)
    files = measure(content, arguments, experiments, settings)
    if arguments.save:
        from outrageous.results.files import write_bytes
        from outrageous.results.provenance import BENCHMARKS

        for name, data in files.items():
            path = Path(BENCHMARKS) / name
            write_bytes(path, data)
            print(f"wrote {path}")
    return 0


def _batching(
    content: dict[str, Any], arguments: argparse.Namespace, experiments: list[str], settings: list[str]
) -> dict[str, bytes]:
    from outrageous.training.benchmark import batching_speed

    (config, *_), corpus = _prepare(arguments, experiments or ["lm/moe_1_wide"], settings)
    return _lines(content, arguments, batching_speed(corpus, config.trainer.words_per_batch, arguments.rounds))


def _step(
    content: dict[str, Any], arguments: argparse.Namespace, experiments: list[str], settings: list[str]
) -> dict[str, bytes]:
    from outrageous.training.benchmark import step_speeds

    configs, corpus = _prepare(arguments, experiments, settings)
    speeds = step_speeds(configs, corpus, arguments.rounds)
    first = speeds[experiments[0]]
    ratios = {f"{name} / {experiments[0]}": speed / first for name, speed in speeds.items() if name != experiments[0]}
    return _lines(content, arguments, {f"{name} words_per_second": speed for name, speed in speeds.items()} | ratios)


def _prepare(arguments: argparse.Namespace, experiments: list[str], settings: list[str]) -> tuple[list[Any], Any]:
    """The configurations of the experiments, and the corpus of the first."""
    from outrageous.commands.compose import run_config
    from outrageous.data.corpus import prepare_corpus
    from outrageous.training.libraries import set_up_cpu

    set_up_cpu(arguments.threads)
    overrides = [f"scale={arguments.scale}", *settings]
    configs = [run_config([f"experiment={name}", *overrides]) for name in experiments]
    return configs, prepare_corpus(configs[0].data, Path(configs[0].paths.corpora))


def _lines(content: dict[str, Any], arguments: argparse.Namespace, figures: dict[str, float]) -> dict[str, bytes]:
    for name, value in figures.items():
        print(f"{name:45} {value:,.0f}" if value > 100 else f"{name:45} {value:.4f}")
    return {f"{arguments.what}_{arguments.scale}.json": _json(content | {"figures": figures})}


def _layer(
    content: dict[str, Any], arguments: argparse.Namespace, experiments: list[str], settings: list[str]
) -> dict[str, bytes]:
    from outrageous.results.layer_tables import layer_markdown
    from outrageous.training.contestants import LayerSize
    from outrageous.training.layer_benchmark import measure_layer, measure_peaks
    from outrageous.training.libraries import set_up_cpu
    from outrageous.training.peers import versions

    set_up_cpu(arguments.threads)
    sizes = _sizes(arguments.what, [*experiments, *settings])
    (d_model,), (d_hidden,), (k,) = sizes["d_model"], sizes["d_hidden"], sizes["k"]
    content["versions"] |= versions()
    figures: dict[str, list[Any]] = {"sizes": [], "peaks": []}
    content["figures"] = figures
    for num_experts in sizes["experts"]:
        for num_tokens in sizes["tokens"]:
            size = LayerSize(num_experts, num_tokens, d_model, d_hidden, k)
            figures["sizes"].append(measure_layer(size, arguments.rounds))
    for num_experts in sizes["experts"]:
        size = LayerSize(num_experts, max(sizes["tokens"]), d_model, d_hidden, k)
        figures["peaks"].append(asdict(size) | {"bytes": measure_peaks(size)})
    text = layer_markdown(content)
    print(text, end="")
    return {"layer.json": _json(content), "layer.md": text.encode()}


def _cost(
    content: dict[str, Any], arguments: argparse.Namespace, experiments: list[str], settings: list[str]
) -> dict[str, bytes]:
    from outrageous.results.cost_figure import cost_figure
    from outrageous.results.layer_tables import cost_markdown
    from outrageous.training.contestants import LayerSize
    from outrageous.training.gating_benchmark import measure_cost
    from outrageous.training.libraries import set_up_cpu

    set_up_cpu(arguments.threads)
    sizes = _sizes(arguments.what, [*experiments, *settings])
    (num_tokens,), (d_model,), (d_hidden,), (k,) = (sizes[name] for name in ("tokens", "d_model", "d_hidden", "k"))
    size = LayerSize(max(sizes["experts"]), num_tokens, d_model, d_hidden, k)
    content["figures"] = measure_cost(size, sizes["experts"], arguments.rounds)
    text, drawing = cost_markdown(content), cost_figure(content)
    print(text, end="")
    return {"cost.json": _json(content), "cost.md": text.encode(), "cost.svg": drawing.svg, "cost.png": drawing.png}


def _memory(
    content: dict[str, Any], arguments: argparse.Namespace, experiments: list[str], settings: list[str]
) -> dict[str, bytes]:
    from outrageous.results.savings_table import savings_markdown
    from outrageous.training.contestants import LayerSize
    from outrageous.training.memory_benchmark import measure_savings

    sizes = _sizes(arguments.what, [*experiments, *settings])
    (num_experts,), (num_tokens,) = sizes["experts"], sizes["tokens"]
    (d_model,), (d_hidden,), (k,) = sizes["d_model"], sizes["d_hidden"], sizes["k"]
    size = LayerSize(num_experts, num_tokens, d_model, d_hidden, k)
    content["figures"] = measure_savings(size, arguments.rounds, arguments.threads)
    text = savings_markdown(content)
    print(text, end="")
    return {"memory.json": _json(content), "memory.md": text.encode()}


def _data(
    content: dict[str, Any], arguments: argparse.Namespace, experiments: list[str], settings: list[str]
) -> dict[str, bytes]:
    from outrageous.commands.compose import run_config
    from outrageous.results.corpus_tables import corpus_markdown
    from outrageous.training.corpus_benchmark import measure_corpora

    sizes = _sizes(arguments.what, [*experiments, *settings])
    (num_types,) = sizes["types"]
    config = run_config(["experiment=lm/moe_4", "scale=paper", "data=lm1b"]).data
    content["figures"] = {"num_types": num_types} | measure_corpora(
        config, sorted(sizes["words"]), num_types, arguments.rounds
    )
    text = corpus_markdown(content)
    print(text, end="")
    return {"data.json": _json(content), "data.md": text.encode()}


def _vocabulary(
    content: dict[str, Any], arguments: argparse.Namespace, experiments: list[str], settings: list[str]
) -> dict[str, bytes]:
    from outrageous.commands.compose import run_config
    from outrageous.results.corpus_tables import vocabulary_markdown
    from outrageous.training.vocabulary_benchmark import measure_vocabulary

    sizes = _sizes(arguments.what, [*experiments, *settings])
    (num_types,), (num_tokens,), (d_model,), (num_sampled,) = (sizes[name] for name in SIZES["vocabulary"])
    if num_sampled >= num_types:
        raise UserError(f"sampled={num_sampled}: must be fewer than types={num_types}")
    config = run_config(
        [
            *("experiment=lm/moe_4", "scale=paper", f"scale.d_model={d_model}", f"model.num_sampled={num_sampled}"),
            f"trainer.words_per_batch={num_tokens}",
        ]
    )
    content["figures"] = measure_vocabulary(config, num_types, arguments.rounds, arguments.threads)
    text = vocabulary_markdown(content)
    print(text, end="")
    return {"vocabulary.json": _json(content), "vocabulary.md": text.encode()}


def _sizes(what: str, settings: list[str]) -> dict[str, list[int]]:
    """The sizes of `what`, as the settings change them: only experts, tokens of layer and words may be several."""
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


def _origin(arguments: argparse.Namespace, argv: list[str]) -> dict[str, Any]:
    """Where the figures come from; asked before they are measured, for the files may change while that lasts."""
    import torch

    from outrageous.results.provenance import git_state, hardware, software_versions

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    commit, dirty = git_state(Path(__file__).parents[3])
    return {
        "command": f"python -m outrageous.commands.bench {shlex.join(argv)}",
        "figures": {},
        "commit": commit,
        "dirty": dirty,
        "versions": software_versions(),
        "hardware": asdict(hardware(arguments.threads, accelerator)),
    }


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


if __name__ == "__main__":
    raise SystemExit(main())
