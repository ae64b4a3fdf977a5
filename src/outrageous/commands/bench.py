"""Measure speed.

python -m outrageous.commands.bench batching     batches from the packed corpus, no model
python -m outrageous.commands.bench step experiment=lm/moe_1_wide,lm/moe_32     whole training steps, alternately
python -m outrageous.commands.bench fit          steps of the paper's models within a GPU's memory, and the prediction
python -m outrageous.commands.bench agreement    200 steps of three seeds on a CPU and on a GPU: dev perplexities
python -m outrageous.commands.bench layer        one MoE layer, what bounds it, other packages' layers
python -m outrageous.commands.bench cost         one layer against the number of experts
python -m outrageous.commands.bench products     experts' products alone, beside a device's rate
python -m outrageous.commands.bench memory       what each memory saving of appendix D saves and costs
python -m outrageous.commands.bench decoding     translations: beams of 1, 4 and 10, by length
python -m outrageous.commands.bench feedback     training: the context fed back, step by step
python -m outrageous.commands.bench data         corpora prepared and read: three sizes, up to 1.7 GB
python -m outrageous.commands.bench vocabulary   a step with 793,471 words, by the tables' optimizer
python -m outrageous.commands.bench scaling      bytes between processes, and steps they predict
python -m outrageous.commands.bench sharding     steps with experts spread over processes, alternately

Prints medians and ratios; --save also writes them to results/benchmarks/, with commit, versions and hardware. Settings
are, for batching, step, fit, agreement and sharding, as outrageous-train takes them, for the others sizes, such as
experts=4,32 tokens=2048,8192 d_model=512 d_hidden=1024 k=4; for all scale=pocket, a file under conf/scale, where it
matters.

`data` needs 7 GB under outputs/ while it runs, and took nine minutes on two cores; `vocabulary` needs 16 GB of memory
and took seven. Smaller: data words=2000000,4000000,8000000 types=50000; vocabulary types=50000 tokens=512.
"""

import argparse
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from outrageous.commands.bench_corpora import bench_data, bench_vocabulary
from outrageous.commands.bench_decoding import bench_decoding, bench_feedback
from outrageous.commands.bench_layers import bench_cost, bench_layer, bench_memory, bench_products
from outrageous.commands.bench_scaling import bench_scaling, bench_sharding
from outrageous.commands.bench_sizes import save
from outrageous.commands.bench_steps import bench_agreement, bench_batching, bench_fit, bench_step
from outrageous.commands.errors import one_clear_message
from outrageous.errors import UserError

ROUNDS = {
    "batching": 5,
    "step": 3,
    "fit": 1,
    "agreement": 3,
    "layer": 3,
    "cost": 3,
    "products": 5,
    "memory": 5,
    "decoding": 5,
    "feedback": 9,
    "data": 1,
    "vocabulary": 3,
    "scaling": 1,
    "sharding": 60,
}


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 when measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(ROUNDS))
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="see above")
    rounds = ", ".join(f"{number} for {what}" for what, number in ROUNDS.items())
    parser.add_argument("--rounds", type=int, help=f"turns of each, epochs, or seeds (default: {rounds})")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1); for sharding of each process")
    parser.add_argument("--save", action="store_true", help="write to results/benchmarks/ too")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.rounds is None:
        arguments.rounds = ROUNDS[arguments.what]
    if arguments.rounds < 1 or arguments.threads < 1:
        raise UserError(f"--rounds {arguments.rounds} --threads {arguments.threads}: both must be at least 1")
    scales = [setting.removeprefix("scale=") for setting in arguments.settings if setting.startswith("scale=")]
    arguments.scale = scales[-1] if scales else "pocket"
    settings = [setting for setting in arguments.settings if not setting.startswith("scale=")]
    measure = {
        "batching": bench_batching,
        "step": bench_step,
        "fit": bench_fit,
        "agreement": bench_agreement,
        "layer": bench_layer,
        "cost": bench_cost,
        "products": bench_products,
        "memory": bench_memory,
        "decoding": bench_decoding,
        "feedback": bench_feedback,
        "data": bench_data,
        "vocabulary": bench_vocabulary,
        "scaling": bench_scaling,
        "sharding": bench_sharding,
    }[arguments.what]
    content = _origin(arguments, sys.argv[1:] if argv is None else argv)
    files = measure(content, arguments, settings)
    if arguments.save:
        from outrageous.results.provenance import BENCHMARKS

        save(files)
        print(f"wrote {', '.join(files)} in {BENCHMARKS}")
    return 0


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


if __name__ == "__main__":
    raise SystemExit(main())
