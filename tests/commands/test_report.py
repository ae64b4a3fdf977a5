import dataclasses
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from outrageous.commands import report
from outrageous.results.drawing import Drawing
from outrageous.results.figures import PAPER_FIGURES
from outrageous.results.records import Record, read_record, write_record
from outrageous.results.translation_samples import Translated, to_lines

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "results" / "sample_record.json"


def record(row: str, **changes: Any) -> Record:
    return dataclasses.replace(read_record(SAMPLE), row=row, experiment=f"lm/{row}", **changes)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with the published tables and two seeds of moe_4 at pocket scale."""
    folder = tmp_path / "results"
    shutil.copytree(ROOT / "results" / "published", folder / "published")
    for seed in (0, 1):
        write_record(record("moe_4", seed=seed), folder / "records" / "lm" / "moe_4" / "pocket" / f"seed_{seed}")
    return folder


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of texts: drawing takes seconds."""
    for name in ("figures.draw", "learning_curves"):
        monkeypatch.setattr(f"outrageous.results.exhibits.{name}", lambda *_: Drawing(svg=b"svg", png=b"png"))


def test_the_committed_tables_and_figures_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    code = report.main(["--check", "--results", str(ROOT / "results")])
    assert code == 0, capsys.readouterr().out


def test_written_files_are_current_until_a_record_changes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--results", str(results)]
    assert report.main(arguments) == 0
    assert report.main(["--check", *arguments]) == 0
    assert "80.00 ± 0.00 (2)" in (results / "tables" / "table_7_pocket.md").read_text()
    written = {path.name for folder in ("tables", "figures") for path in (results / folder).iterdir()}
    names = ("figure_2_left", "figure_2_right", "figure_3", "learning_curves", "figure_4_en_de", "figure_4_en_fr")
    drawings = {f"{name}_pocket.{suffix}" for name in names for suffix in ("svg", "png")}
    texts = {f"{name}_pocket.md" for name in (*(f"table_{number}" for number in (1, 2, 3, 5, 6, 7, 8)), "claims")}
    assert written == {*texts, *drawings}

    changed = record("moe_4", seed=0, metrics={"test_perplexity": 79.0})
    write_record(changed, results / "records" / "lm" / "moe_4" / "pocket" / "seed_0")
    capsys.readouterr()
    assert report.main(["--check", *arguments]) == 1
    stale = [line.split(";")[0] for line in capsys.readouterr().out.splitlines()]
    # Neither the claims (still not run) nor the curves show a test perplexity.
    changed_files = (
        "tables/table_7_pocket.md",
        "figures/figure_2_left_pocket.svg",
        "figures/figure_2_right_pocket.svg",
    )
    assert stale == [f"stale: {results}/{file}" for file in changed_files]


@pytest.mark.usefixtures("no_drawing")
def test_the_readme_shows_the_rows_that_were_run_and_is_checked(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = results.parent / "README.md"
    readme.write_text(f"before\n{report.README_TABLE}\nold\n{report.README_TABLE_END}\nafter\n")
    arguments = ["--results", str(results)]
    assert report.main(["--check", *arguments]) == 1
    assert f"stale: {readme}" in capsys.readouterr().out
    assert report.main(arguments) == 0
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert rows == ["model", "---", "moe_4"]
    assert report.main(["--check", *arguments]) == 0


def test_check_names_lost_and_orphaned_files_but_does_not_compare_pngs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {tmp_path / name: b"content" for name in ("table.md", "figure.svg", "figure.png", "lost.png")}
    (tmp_path / "table.md").write_bytes(b"content")
    (tmp_path / "figure.svg").write_bytes(b"content")
    (tmp_path / "figure.png").write_bytes(b"another compression")
    (tmp_path / "old.svg").touch()
    (tmp_path / "audit.md").touch()  # another command's
    assert report._check(files) == 1
    lost, orphan = capsys.readouterr().out.splitlines()
    assert lost.startswith(f"stale: {tmp_path / 'lost.png'}; run `python -m outrageous.commands.report`")
    assert orphan == f"stale: {tmp_path / 'old.svg'}; no record stands behind it, delete it"


@pytest.mark.usefixtures("no_drawing")
def test_smoke_is_no_reference_and_every_other_scale_has_its_own_files(results: Path) -> None:
    for scale in ("smoke", "paper"):
        folder = results / "records" / "lm" / "moe_32" / scale / "seed_0"
        write_record(record("moe_32", scale=scale, metrics={"test_perplexity": 12.34}), folder)
    assert report.main(["--results", str(results)]) == 0
    tables = {path.name: path.read_text() for path in (results / "tables").glob("table_7_*")}
    assert tables.keys() == {"table_7_pocket.md", "table_7_paper.md"}
    assert "12.34" not in tables["table_7_pocket.md"]
    assert "12.34 (1)" in tables["table_7_paper.md"]


def test_a_scale_beyond_pocket_shows_the_tables_that_it_has_rows_of(results: Path) -> None:
    write_record(
        record("moe_32", scale="workstation"), results / "records" / "lm" / "moe_32" / "workstation" / "seed_0"
    )
    names = {path.name for path in report.reference_files(results) if "workstation" in path.name}
    assert {"table_7_workstation.md", "claims_workstation.md", "learning_curves_workstation.svg"} <= names
    assert not {"table_2_workstation.md", "table_8_workstation.md", "figure_3_workstation.svg"} & names


def test_a_users_mistake_is_one_line(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results / "records" / "lm" / "moe_4" / "pocket" / "seed_0" / "record.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(SystemExit) as stop:
        report.main(["--results", str(results)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path} is not whole JSON")
    assert error.count("\n") == 1
    assert not (results / "tables").exists()


def test_the_local_report_has_all_three_groups_of_columns(results: Path, tmp_path: Path) -> None:
    target = tmp_path / "report"
    mine = [record("moe_4", metrics={"test_perplexity": 71.5})]
    text = report.write_local_report("table_7", mine, target, "pocket", results)
    (line,) = [line for line in text.splitlines() if line.split()[:1] == ["moe_4"]]
    assert line.split() == ["moe_4", "45.0", "80.00", "±", "0.00", "(2)", "71.50", "(1)"]
    markdown = (target / "table_7_pocket.md").read_text()
    assert "| moe_4 | 45.0 | 8.4 | 8.4 | 80.00 ± 0.00 (2) | 0.131 | 0.131 | 71.50 (1) | 0.131 | 0.131 |" in markdown
    assert str(target / "figure_2_left_pocket.png") in text
    assert len(list(target.iterdir())) == 8
    assert "reproduce table_7`" in markdown


def test_a_local_report_shows_the_table_and_claims_of_its_sweep_alone(results: Path, tmp_path: Path) -> None:
    loads = {"cv_importance": 3.0, "cv_load": 2.5, "max_over_mean_load": 17.0, "test_perplexity": 91.0}
    mine = [record("balance_0_0", metrics=loads), record("moe_4")]
    text = report.write_local_report("table_6", mine, tmp_path / "report", "pocket", results)
    lines = [line.split() for line in text.splitlines() if line.split()[:2] == ["0.0,", "0.0"]]
    assert [line[2:] for line in lines] == [
        ["39.8", "not", "run", "91.00", "(1)"],
        ["17.80", "not", "run", "17.00", "(1)"],
    ]
    drawn = {f"learning_curves_pocket.{suffix}" for suffix in ("svg", "png")}
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {"table_6_pocket.md", "claims_pocket.md", *drawn}
    claims = (tmp_path / "report" / "claims_pocket.md").read_text()
    assert "balance_0_0 17.00 (1)" in claims
    assert "moe_4" not in claims


def test_every_sweep_has_its_table_and_figures() -> None:
    assert report.OF_SWEEP.keys() == {file.stem for file in (ROOT / "conf" / "sweep").glob("*.yaml")}
    assert {name for shown in report.OF_SWEEP.values() for name in shown.figures} == PAPER_FIGURES.keys()


@pytest.mark.usefixtures("no_drawing")
def test_the_local_report_of_a_smoke_run_shows_no_reference(results: Path, tmp_path: Path) -> None:
    write_record(record("moe_4", scale="smoke"), results / "records" / "smoke")
    report.write_local_report("table_7", [record("moe_4", scale="smoke")], tmp_path / "report", "smoke", results)
    markdown = (tmp_path / "report" / "table_7_smoke.md").read_text()
    assert "| moe_4 | 45.0 | 8.4 | 8.4 | not run | not run | not run | 80.00 (1) |" in markdown
    assert "its perplexities mean nothing" in markdown


@pytest.mark.parametrize("command", ["report", "promote", "kneser_ney", "translate", "experts"])
def test_help_is_quick_and_imports_nothing_heavy(command: str) -> None:
    code = (
        f"import sys\nfrom outrageous.commands import {command}\n"
        f"try:\n    {command}.main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "assert not {'torch', 'matplotlib', 'pytorch_lightning'} & set(sys.modules)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert time.perf_counter() - start < 20  # a second on an idle machine


@pytest.mark.usefixtures("no_drawing")
def test_what_is_kept_beside_the_first_seed_is_shown(results: Path) -> None:
    for seed in (1, 2):
        folder = results / "records" / "mt" / "moe_0_en_de" / "pocket" / f"seed_{seed}"
        mine = record("mt_moe_0_en_de", seed=seed)
        write_record(dataclasses.replace(mine, experiment="mt/moe_0_en_de"), folder)
        part = Translated(["a source"], ["a reference"], [f"ours of seed {seed}"], "nrefs:1")
        (folder / "translations.en-de.txt").write_text(to_lines(part))
    assert report.main(["--results", str(results)]) == 0
    text = (results / "tables" / "translations_pocket.md").read_text()
    assert "- source: a source\n- reference: a reference\n- mt/moe_0_en_de seed 1: ours of seed 1\n" in text
    assert "seed 2" not in text
    assert report.main(["--check", "--results", str(results)]) == 0
