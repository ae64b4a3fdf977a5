"""Make finished runs reference records.

Copies the newest run of each experiment and seed to results/records/<experiment>/<scale>/seed_<n>/record.json, for
committing, and a few of its translations and experts beside it. All runs are looked at before the first is copied.

    python -m outrageous.commands.promote                   runs at pocket scale under outputs/
    python -m outrageous.commands.promote --scale paper
"""

import argparse
from pathlib import Path

from outrageous.commands.errors import one_clear_message
from outrageous.errors import UserError
from outrageous.results.files import write_bytes
from outrageous.results.records import (
    FILE_NAME,
    SCALES,
    Record,
    latest_runs,
    read_record,
    reference_folder,
    write_record,
)
from outrageous.results.samples import kept


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="pocket", help="scale of the runs (default: pocket)")
    parser.add_argument("--from", dest="outputs", type=Path, default=Path("outputs"), help="where the runs are")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    parser.add_argument("--replace", action="store_true", help="overwrite records that differ")
    arguments = parser.parse_args(argv)
    for path in promote(arguments.outputs, arguments.results, arguments.scale, arguments.replace):
        print(f"promoted {path}")
    return 0


def promote(outputs: Path, results: Path, scale: str, replace: bool) -> list[Path]:
    """Copy the records, and what is kept of each run to be read; return the paths of those that are new or changed.

    Raises UserError, before anything is written, when there is nothing to promote, for the smoke scale, for a run whose
    code is not exactly a commit, and for a record that differs from the one in its place unless `replace`; and when a
    record cannot be written, or what a run left to be read is damaged.
    """
    if scale == "smoke":
        raise UserError("smoke runs only show that every part runs; their numbers are never a reference")
    found = {path.parent: read_record(path) for path in sorted(outputs.rglob(FILE_NAME))}
    runs = [record for record in latest_runs(found.values()) if record.scale == scale]
    if not runs:
        raise UserError(f"no finished run of scale {scale} under {outputs}; run the experiment, or name it with --from")
    if unclean := [_name(record) for record in runs if record.commit is None or record.dirty is not False]:
        raise UserError(f"not made from a clean commit: {', '.join(unclean)}; commit the changes and run again")
    targets = {reference_folder(results, r.experiment, r.scale, r.seed): r for r in runs}
    changed = {folder: record for folder, record in targets.items() if not _is_there(record, folder)}
    if not replace and (others := [str(folder) for folder in changed if (folder / FILE_NAME).exists()]):
        raise UserError(f"other records are already there: {', '.join(others)}; pass --replace to overwrite them")
    origins = {id(record): folder for folder, record in found.items()}
    texts = {folder: kept(origins[id(record)]) for folder, record in changed.items()}
    return [_write(record, texts[folder], folder) for folder, record in changed.items()]


def _write(record: Record, texts: dict[str, bytes], folder: Path) -> Path:
    """The record last: where it stands, the rest does too."""
    for name, content in texts.items():
        write_bytes(folder / name, content)
    return write_record(record, folder)


def _name(record: Record) -> str:
    return f"{record.experiment} {record.scale} seed {record.seed}"


def _is_there(record: Record, folder: Path) -> bool:
    path = folder / FILE_NAME
    return path.exists() and read_record(path) == record


if __name__ == "__main__":
    raise SystemExit(main())
