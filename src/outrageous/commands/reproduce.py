"""Train every row of a table or figure, several runs at once, then print and draw it beside the paper.

python -m outrageous.commands.reproduce table_7 --scale pocket --seeds 0,1,2

The 5-gram baseline of tables 7 and 8 is estimated first. Runs that this machine has finished with the same settings are
not repeated, interrupted ones go on where they stopped.
Further arguments are settings for every run, as outrageous-train takes them.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from outrageous.commands.errors import one_clear_message
from outrageous.commands.kneser_ney import BASELINES, estimate
from outrageous.errors import UserError
from outrageous.results.records import Record, in_its_row

if TYPE_CHECKING:
    from outrageous.training.run_folder import RunFolder


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 when every run is finished, 2 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", help="a file under conf/sweep, such as table_7")
    parser.add_argument("--scale", default="pocket", help="a file under conf/scale (default: pocket)")
    parser.add_argument("--seeds", type=_seeds, default=[0], help="such as 0,1,2 (default: 0)")
    parser.add_argument("--jobs", type=int, help="runs at once (default: one per core, or one on a GPU)")
    parser.add_argument("settings", nargs="*", help="such as trainer.max_epochs=3")
    arguments = parser.parse_intermixed_args(argv)

    # Imported here, so that --help answers at once.
    from outrageous.commands.jobs import plan_jobs, run_jobs
    from outrageous.commands.report import OF_SWEEP, write_local_report

    at_once = _jobs_at_once() if arguments.jobs is None else arguments.jobs
    if at_once < 1:
        raise UserError(f"--jobs {at_once}: must be at least 1")
    jobs, runs = plan_jobs(arguments.sweep, arguments.scale, arguments.seeds, arguments.settings)
    if arguments.sweep not in OF_SWEEP:
        raise UserError(f"{arguments.sweep} is no table or figure to print; train it: outrageous-train sweep=…")
    baseline = _baseline(arguments.sweep, arguments.scale, arguments.settings)
    failed = run_jobs(jobs, at_once)
    records = [*baseline, *(job.record() for job in jobs if job.finished)]
    print(write_local_report(arguments.sweep, records, runs / arguments.sweep, arguments.scale))
    finished = {job.title: job.folder for job in jobs if job.finished}
    write_samples(finished, runs / arguments.sweep, arguments.scale, arguments.sweep)
    if arguments.settings:
        print(f"All of this machine's runs with {' '.join(arguments.settings)}")
    for job in failed:
        print(f"failed: {job.title}: {job.last_words()}\n  whole log: {job.log}", file=sys.stderr)
    return 2 if failed else 0


def write_samples(folders: "dict[str, RunFolder]", target: Path, scale: str, sweep: str) -> None:
    """Translations of the same sentences by every run, title by title, and some of their experts, into files in the
    folder `target`, if there are any; says where these and all experts stand."""
    from outrageous.commands.report import LOCAL_COMMAND
    from outrageous.results.files import write_bytes
    from outrageous.results.samples import samples

    files = samples(
        {title: folder.path for title, folder in sorted(folders.items())}, scale, f"{LOCAL_COMMAND} {sweep}"
    )
    for name, content in files.items():
        write_bytes(target / name, content)
    pages = [folder.experts_page for folder in folders.values() if folder.experts_page.exists()]
    for title, paths in (("Translations and experts", [target / name for name in files]), ("All experts", pages)):
        if paths:
            print("\n  ".join([f"{title}, to be read:", *map(str, paths)]))


def _baseline(sweep: str, scale: str, settings: list[str]) -> list[Record]:
    """The record of the sweep's 5-gram baseline, if it has one and this machine can count its n-grams."""
    if sweep not in BASELINES:
        return []
    try:
        record = estimate(sweep, scale, settings)
    except UserError as error:
        print(f"{BASELINES[sweep][0]} not run: {error}", file=sys.stderr)
        return []
    return [in_its_row(record)]


def _seeds(text: str) -> list[int]:
    seeds = text.split(",")
    if not all(seed.isdecimal() for seed in seeds) or len({*seeds}) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r}: must be different whole numbers, such as 0,1,2")
    return [int(seed) for seed in seeds]


def _jobs_at_once() -> int:
    import torch

    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


if __name__ == "__main__":
    raise SystemExit(main())
