"""Compare the sizes of our models with the printed ones, and predict the memory they take.

outrageous-audit                                      every printed size, in seconds: no weight is allocated
outrageous-audit lm/moe_256 lm/moe_256_h              the rows of these experiments alone
outrageous-audit lm/moe_4096_h --devices 1,8,16       and what training takes on each of so many devices
outrageous-audit lm/moe_143m --devices 1 trainer=gpu savings=appendix_d     with settings, as outrageous-train has them
outrageous-audit --save                               all rows, to results/tables/audit.md too
outrageous-audit --one-gpu --save                     what fits one GPU, and with which settings: one_gpu.md beside it

Exit code 1 if a figure differs from the printed one beyond its precision, and no reason for it is known.
"""

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from outrageous.commands.errors import one_clear_message
from outrageous.errors import UserError
from outrageous.results.audit import AuditRow, differences, printed_rows
from outrageous.results.audit_tables import NOTES, Grid, audit_grids, to_markdown, to_terminal
from outrageous.results.files import write_bytes

if TYPE_CHECKING:
    from outrageous.config import AnyRunConfig
    from outrageous.models.gnmt import TranslationModel
    from outrageous.models.language_model import LanguageModel

COMMAND = "python -m outrageous.commands.audit --save"
TITLE = "Our models' sizes beside the printed ones"
ONE_BILLION_WORD = 793_471  # words of the vocabulary, where the settings do not limit it
WORDPIECES = 32_000  # of translation at paper scale
GIGABYTE = 1e9
MEMORY_HEADINGS = ["devices", "words of each", "weights", "optimizer", "gradients", "peak of a step"]
TOO_FEW = "-: there are {} experts, or groups of them, to be shared, and no device can be without."


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 where every figure is as printed, or its difference explained; else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", help="such as lm/moe_256 (default: all that have a printed size)")
    parser.add_argument("--devices", type=_numbers, default=[], help="predict the memory for so many, such as 1,8,16")
    parser.add_argument("--scale", default="paper", help="of the predicted memory (default: paper)")
    parser.add_argument("--one-gpu", action="store_true", help="predict the memory of table 7's models on one GPU")
    parser.add_argument("--save", action="store_true", help="write what is printed to results/tables/")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    arguments = parser.parse_intermixed_args(argv)
    arguments.settings = [argument for argument in arguments.experiments if "=" in argument]
    arguments.experiments = [argument for argument in arguments.experiments if "=" not in argument]
    _check(arguments)
    if arguments.one_gpu:
        return _one_gpu(arguments)
    rows = audit(arguments.results, arguments.experiments)
    grids = audit_grids(rows)
    if arguments.devices:
        grids += [
            memory_grid(name, arguments.scale, arguments.devices, arguments.settings) for name in arguments.experiments
        ]
    print(to_terminal(grids), end="")
    if arguments.save:
        path = arguments.results / "tables" / "audit.md"
        write_bytes(path, markdown(rows).encode())
        print(f"wrote {path}")
    different = differences(rows)
    for line in different:
        print(f"differs: {line}")
    if rows and not different:
        print("Every figure is as printed, or its difference explained.")
    return 1 if different else 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises UserError where the arguments do not fit together."""
    if arguments.save and (arguments.experiments or arguments.settings):
        raise UserError("--save writes the rows of all experiments: name none")
    if arguments.devices and not arguments.experiments:
        raise UserError("--devices: name the experiments whose memory is to be predicted, such as lm/moe_4096_h")
    if arguments.devices:
        return
    if arguments.settings:
        raise UserError(f"{arguments.settings[0]}: settings are of the memory that --devices predicts")
    if arguments.scale != "paper":
        raise UserError(
            f"--scale {arguments.scale}: what is printed is of scale paper; with --devices it says whose memory"
        )
    printed = {row.experiment for row in printed_rows(arguments.results / "published")}
    if unknown := [name for name in arguments.experiments if name not in printed]:
        raise UserError(f"no size of {', '.join(unknown)} is printed; --devices predicts its memory")


def audit(results: Path, experiments: list[str]) -> list[AuditRow]:
    """Every printed row, or those of the experiments alone.

    Raises UserError if a printed table cannot be read.
    """
    chosen = [row for row in printed_rows(results / "published") if not experiments or row.experiment in experiments]
    return [row.beside(_counts(row.experiment) if row.experiment else None) for row in chosen]


def markdown(rows: list[AuditRow]) -> str:
    """What results/tables/audit.md is to hold."""
    return to_markdown(TITLE, audit_grids(rows), NOTES, COMMAND)


def memory_grid(experiment: str, scale: str, devices: list[int], settings: list[str]) -> Grid:
    """What training takes on one of each number of GPUs, with these settings; "-" of more than can share its experts.

    Raises UserError if there is no such experiment or scale, or no such setting.
    """
    from outrageous.commands.compose import any_config
    from outrageous.training.predicted_memory import predict_memory

    config = any_config([f"experiment={experiment}", f"scale={scale}", *settings])
    words = config.trainer.words_per_batch
    rows = []
    moe = config.model.moe
    for num_devices in devices:
        cells = ["-"] * 4
        if moe is None or num_devices <= moe.num_units:
            memory = predict_memory(config, vocabulary_of(config), num_devices)
            sizes = (memory.weights, memory.optimizer, memory.gradients, memory.peak)
            cells = [f"{size / GIGABYTE:,.3f}" for size in sizes]
        rows.append([str(num_devices), f"{-(-words // num_devices):,}", *cells])
    notes = [] if moe is None or max(devices) <= moe.num_units else [TOO_FEW.format(moe.num_units)]
    title = f"{' '.join([experiment, *settings])}, {scale} scale: predicted memory of one GPU, GB"
    return Grid(title, MEMORY_HEADINGS, rows, notes)


def vocabulary_of(config: "AnyRunConfig") -> int:
    """Entries, as large as it can be with these settings."""
    from outrageous.config import RunConfig

    if isinstance(config, RunConfig):
        return config.data.max_size or ONE_BILLION_WORD
    return WORDPIECES if config.scale.name == "paper" else config.data.vocabulary_size


def _one_gpu(arguments: argparse.Namespace) -> int:
    from outrageous.commands.one_gpu import NOTES as NOTES_OF_ONE_GPU
    from outrageous.commands.one_gpu import grid_of

    grid = grid_of()
    print(to_terminal([grid]), end="")
    if arguments.save:
        path = arguments.results / "tables" / "one_gpu.md"
        command = "python -m outrageous.commands.audit --one-gpu --save"
        write_bytes(path, to_markdown("The paper's models on one GPU", [grid], NOTES_OF_ONE_GPU, command).encode())
        print(f"wrote {path}")
    return 0


@functools.cache
def _language_model(experiment: str) -> "LanguageModel":
    # Imported here, so that --help answers at once.
    import torch

    from outrageous.commands.compose import run_config
    from outrageous.models.language_model import LanguageModel

    config = run_config([f"experiment={experiment}", "scale=paper"])
    with torch.device("meta"):  # 137 billion parameters take no memory there
        return LanguageModel(config.model, vocabulary_of(config))


@functools.cache
def _translation_model(experiment: str) -> "TranslationModel":
    import torch

    from outrageous.commands.compose import translation_config
    from outrageous.models.gnmt import TranslationModel

    with torch.device("meta"):
        return TranslationModel(translation_config([f"experiment={experiment}", "scale=paper"]).model, WORDPIECES)


def _counts(experiment: str) -> dict[str, int]:
    from outrageous.models.cost import cost

    translates = experiment.startswith("mt/")
    counted = cost(_translation_model(experiment) if translates else _language_model(experiment))
    return {"ops": counted.ops_per_timestep, "params": counted.params, "total": counted.total_params}


def _numbers(text: str) -> list[int]:
    if not all(number.isdecimal() and int(number) > 0 for number in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}: must be whole numbers from 1, such as 1,8,16")
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(main())
