"""Make the tables and figures from the records.

python -m outrageous.commands.report            rewrite results/tables and results/figures from results/records
python -m outrageous.commands.report --check    exit with 1, naming them, where those files are stale
"""

import argparse
from pathlib import Path

from outrageous.commands.errors import one_clear_message
from outrageous.results import claims, published, tables
from outrageous.results.files import write_bytes
from outrageous.results.records import SCALES, Record, find_records, latest_runs

COMMAND = "python -m outrageous.commands.report"
LOCAL_COMMAND = "python -m outrageous.commands.reproduce"
REFERENCE, THIS_MACHINE = "reference", "this machine"


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 when done, 1 when --check finds stale files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a committed file is stale")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    arguments = parser.parse_args(argv)
    files = reference_files(arguments.results)
    if arguments.check:
        return _check(files)
    for path, content in files.items():
        write_bytes(path, content)
        print(f"wrote {path}")
    return 0


def reference_files(results: Path) -> dict[Path, bytes]:
    """What results/tables and results/figures should hold: path to content, for pocket and every scale with records.

    Raises UserError for an unreadable record or published table, and for seeds of one row with different configs.
    """
    from outrageous.results import figures  # here: matplotlib would slow --help down

    paper = published.table_7(results / "published")
    reference = _reference(results)
    files: dict[Path, bytes] = {}
    for scale in SCALES:
        if scale != "pocket" and all(record.scale != scale for record in reference):
            continue
        table = tables.table_7(paper, scale, {REFERENCE: reference})
        verdicts = claims.check_claims(paper, reference, scale)
        files[results / "tables" / f"table_7_{scale}.md"] = tables.to_markdown(table, COMMAND).encode()
        files[results / "tables" / f"claims_{scale}.md"] = claims.to_markdown(verdicts, scale, COMMAND).encode()
        panels = [figures.printed_panel(paper), figures.our_panel(REFERENCE, paper, reference, scale)]
        drawings = {
            "figure_2_left": figures.figure_2_left(panels, COMMAND),
            "learning_curves": figures.learning_curves(REFERENCE, paper, reference, scale, COMMAND),
        }
        for name, drawing in drawings.items():
            files[results / "figures" / f"{name}_{scale}.svg"] = drawing.svg
            files[results / "figures" / f"{name}_{scale}.png"] = drawing.png
    return files


def _reference(results: Path) -> list[Record]:
    # Smoke runs prove that the parts run; their numbers mean nothing, so they are no reference.
    return [record for record in find_records(results / "records") if record.scale != "smoke"]


def _check(files: dict[Path, bytes]) -> int:
    stale = [path for path, content in files.items() if not _is_current(path, content)]
    folders = {path.parent for path in files}
    orphans = [path for folder in sorted(folders) for path in sorted(folder.glob("*")) if path not in files]
    for path in stale:
        print(f"stale: {path}; run `{COMMAND}` and commit the result")
    for path in orphans:
        print(f"stale: {path}; no record stands behind it, delete it")
    return 1 if stale or orphans else 0


def _is_current(path: Path, content: bytes) -> bool:
    # PNGs depend on the machine's compression library; the SVG beside them shows the same.
    return path.is_file() and (path.suffix == ".png" or path.read_bytes() == content)


def write_local_report(outputs_root: Path, target_folder: Path, scale: str, results: Path = Path("results")) -> str:
    """Write table 7 with this machine's runs, the claims, figure 2 (left) and the curves; return the text to print.

    outputs_root: searched for record.json; the newest run a seed counts.  target_folder: where the files go.
    Raises UserError as `reference_files` does, and when the folder cannot be written.
    """
    from outrageous.results import figures

    paper = published.table_7(results / "published")
    ours = {REFERENCE: _reference(results), THIS_MACHINE: latest_runs(find_records(outputs_root))}
    mine = ours[THIS_MACHINE]
    table = tables.table_7(paper, scale, ours)
    verdicts = claims.check_claims(paper, mine, scale)
    panels = [figures.printed_panel(paper)]
    panels += [figures.our_panel(origin, paper, records, scale) for origin, records in ours.items()]
    figure_2 = figures.figure_2_left(panels, LOCAL_COMMAND)
    curves = figures.learning_curves(THIS_MACHINE, paper, mine, scale, LOCAL_COMMAND)
    files = {
        f"table_7_{scale}.md": tables.to_markdown(table, LOCAL_COMMAND).encode(),
        f"claims_{scale}.md": claims.to_markdown(verdicts, scale, LOCAL_COMMAND).encode(),
        f"figure_2_left_{scale}.svg": figure_2.svg,
        f"figure_2_left_{scale}.png": figure_2.png,
        f"learning_curves_{scale}.svg": curves.svg,
        f"learning_curves_{scale}.png": curves.png,
    }
    for name, content in files.items():
        write_bytes(target_folder / name, content)
    written = "".join(f"\n  {target_folder / name}" for name in files)
    return f"{tables.to_terminal(table)}\nWritten:{written}\n"


if __name__ == "__main__":
    raise SystemExit(main())
