"""Measure speed.

python -m outrageous.commands.bench batching                               batches from the packed corpus, no model
python -m outrageous.commands.bench step lm/moe_1_wide lm/moe_32           whole training steps, alternately

Prints medians and, for steps, the ratio to the first experiment; --save also writes them to results/benchmarks/, with
commit, versions and hardware. Further arguments with = are settings, as outrageous-train takes them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from outrageous.commands.errors import one_clear_message
from outrageous.errors import UserError


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 when measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["batching", "step"])
    parser.add_argument("arguments", nargs="*", help="experiments and settings")
    parser.add_argument("--scale", default="pocket", help="a file under conf/scale (default: pocket)")
    parser.add_argument("--rounds", type=int, default=30, help="steps of each model (default: 30)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--save", action="store_true", help="write results/benchmarks/….json too")
    arguments = parser.parse_intermixed_args(argv)
    experiments = [argument for argument in arguments.arguments if "=" not in argument]
    settings = [argument for argument in arguments.arguments if "=" in argument]
    if arguments.what == "step" and not experiments:
        raise UserError("step: name the experiments to compare, such as lm/moe_1_wide lm/moe_32")
    figures = _measure(arguments, experiments or ["lm/moe_1_wide"], settings)
    _print(figures)
    if arguments.save:
        _save(arguments, experiments, figures)
    return 0


def _measure(arguments: argparse.Namespace, experiments: list[str], settings: list[str]) -> dict[str, float]:
    # Imported here, so that --help answers at once.
    from outrageous.commands.compose import run_config
    from outrageous.data.corpus import prepare_corpus
    from outrageous.training.benchmark import batching_speed, step_speeds
    from outrageous.training.libraries import set_up_cpu

    set_up_cpu(arguments.threads)
    overrides = [f"scale={arguments.scale}", *settings]
    configs = [run_config([f"experiment={name}", *overrides]) for name in experiments]
    corpus = prepare_corpus(configs[0].data, Path(configs[0].paths.corpora))
    if arguments.what == "batching":
        return batching_speed(corpus, configs[0].trainer.words_per_batch, num_epochs=5)
    speeds = step_speeds(configs, corpus, arguments.rounds)
    first = speeds[experiments[0]]
    ratios = {f"{name} / {experiments[0]}": speed / first for name, speed in speeds.items() if name != experiments[0]}
    return {f"{name} words_per_second": speed for name, speed in speeds.items()} | ratios


def _print(figures: dict[str, float]) -> None:
    for name, value in figures.items():
        print(f"{name:45} {value:,.0f}" if value > 100 else f"{name:45} {value:.4f}")


def _save(arguments: argparse.Namespace, experiments: list[str], figures: dict[str, float]) -> None:
    from dataclasses import asdict

    import torch

    from outrageous.results.files import write_bytes
    from outrageous.results.provenance import git_state, hardware, software_versions

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    commit, dirty = git_state(Path(__file__).parents[3])
    content: dict[str, Any] = {
        "command": " ".join(["bench", arguments.what, *arguments.arguments, f"--scale {arguments.scale}"]),
        "figures": figures,
        "commit": commit,
        "dirty": dirty,
        "versions": software_versions(),
        "hardware": asdict(hardware(arguments.threads, accelerator)),
    }
    path = Path("results/benchmarks") / f"{arguments.what}_{arguments.scale}.json"
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())
    print(f"wrote {path}")


if __name__ == "__main__":
    raise SystemExit(main())
