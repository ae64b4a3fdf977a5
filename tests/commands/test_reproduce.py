"""The whole ladder on a tiny corpus: trained once, not repeated, failures told apart; and how far it is."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outrageous.commands import reproduce
from outrageous.commands.jobs import Job, plan_jobs, run_jobs
from outrageous.commands.reproduce import main, write_samples
from outrageous.commands.sweep_display import SweepDisplay
from outrageous.errors import UserError
from outrageous.results.records import Record, read_record
from outrageous.results.translation_samples import Translated, to_lines
from outrageous.training.run_folder import RunFolder

TABLE_7 = ("4xlstm_512", "lstm_2048_512", "moe_1_wide", "moe_1_deep", "moe_4", "moe_32", "moe_256")


@pytest.fixture
def quick(tiny_corpus: list[str], tmp_path: Path) -> list[str]:
    """Settings for two steps a run; without the scale, which the command takes as an option."""
    settings = [setting for setting in tiny_corpus if not setting.startswith(("scale", "trainer.max_steps"))]
    return [*settings, "trainer.max_steps=2", "trainer.validate_every=1", f"paths.runs={tmp_path / 'runs'}"]


def test_every_row_is_trained_once_and_the_table_written(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table_7", "--scale", "smoke", "--seeds", "3", "--jobs", "2", *quick]) == 0
    records = sorted((tmp_path / "runs").rglob("record.json"))
    seeds = {json.loads(path.read_text())["experiment"]: json.loads(path.read_text())["seed"] for path in records}
    assert seeds == {f"lm/{row}": 3 for row in TABLE_7} | {"lm/kneser_ney_5gram": 0}
    report = tmp_path / "runs" / "table_7"
    table = (report / "table_7_smoke.md").read_text()
    (cells,) = [line.split("|") for line in table.splitlines() if line.startswith("| moe_256 |")]
    (moe_256,) = [record for record in map(read_record, records) if record.experiment == "lm/moe_256"]
    assert cells[8].strip() == f"{moe_256.metrics['test_perplexity']:.2f} (1)"  # this machine's column
    (ngrams,) = [line.split("|") for line in table.splitlines() if line.startswith("| kneser_ney_5gram |")]
    assert ngrams[8].strip().endswith("(1)")
    assert (report / "figure_2_left_smoke.png").stat().st_size > 1000
    assert "7 of 7 runs done" in capsys.readouterr().err

    written = [path.stat().st_mtime_ns for path in records]
    assert main(["table_7", "--scale", "smoke", "--seeds", "3", *quick]) == 0
    assert [path.stat().st_mtime_ns for path in records] == written
    assert "7 of 7 runs were finished before" in capsys.readouterr().err


def test_a_machine_too_small_for_the_baseline_trains_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_small(*_: object) -> Record:
        raise UserError("counting takes up to 160 GB")

    monkeypatch.setattr(reproduce, "estimate", too_small)
    assert reproduce._baseline("table_8", "paper", []) == []
    assert capsys.readouterr().err == "lm/news_kneser_ney_5gram not run: counting takes up to 160 GB\n"
    assert reproduce._baseline("table_6", "paper", []) == []


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    bad = make_job(tmp_path / "bad", "print('error: no luck'); raise SystemExit(2)")
    good = make_job(tmp_path / "good", "import sys; open(sys.argv[1], 'w')")
    assert run_jobs([bad, good], at_once=1) == [bad]
    assert good.finished
    assert bad.last_words() == "error: no luck"


def test_no_process_outlives_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path / "endless", "import time; time.sleep(600)")
    monkeypatch.setattr(SweepDisplay, "show", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        run_jobs([job], at_once=1)
    assert stop.value.code == 128 + signal.SIGTERM
    assert job.process is not None
    assert job.process.poll() == -signal.SIGTERM


def test_the_largest_models_start_first(quick: list[str]) -> None:
    jobs, _ = plan_jobs("table_7", "smoke", [0, 1], quick)
    assert [job.title for job in jobs[:4]] == [
        f"lm/{row} seed {seed}" for row in ("moe_256", "moe_32") for seed in (0, 1)
    ]
    assert len({job.folder.path for job in jobs}) == 14


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table_70"], "there is no sweep 'table_70': choose one of figure_2_left"),
        (["table_7", "--scale", "poket"], "poket"),
        (["table_7", "trainer.max_step=3"], "max_step"),
        (["table_7", "--jobs", "0"], "--jobs 0"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(
    arguments: list[str], message: str, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, *quick])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_help_answers_without_torch() -> None:
    code = "import sys\ntry: main(['--help'])\nexcept SystemExit: sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", f"import sys; from outrageous.commands.reproduce import main\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--seeds" in done.stdout


def test_the_time_left_is_that_of_what_waits_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, *[0.0] * 2, *[60.0] * 10])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    # 10 steps in a minute: 9 minutes for the 90 steps left, and two runs of 10 minutes wait.
    with SweepDisplay(num_runs=3, num_finished=0) as display:
        display.show({"a": status(step=0)}, num_waiting=2, at_once=1)
        monkeypatch.setattr("outrageous.commands.sweep_display.SECONDS_BETWEEN_LINES", 0.0)
        display.show({"a": status(step=10)}, num_waiting=2, at_once=1)
    line = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "0 of 3 runs finished, about 29 min left; a step 10 of 100, 5,000 words/s, dev perplexity 12.50" in line


def status(step: int) -> dict[str, float]:
    return {"step": step, "num_steps": 100, "words_per_second": 5000.0, "dev_perplexity": 12.5}


def test_a_run_that_wrote_no_progress_has_none(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run")
    assert job.progress() == {}
    job.folder.path.mkdir()
    job.folder.progress.write_text('{"step": 3}')
    assert job.progress() == {"step": 3}


def test_devices_of_a_run_share_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, env, **_: given.append((command[-1], env)))
    for devices, num_threads, of_each in ((1, 4, 4), (2, 4, 2), (8, 4, 1)):
        Job("", [], RunFolder(tmp_path), experts=0, devices=devices).start(num_threads)
        setting, env = given[-1]
        assert setting == f"trainer.num_threads={of_each}"
        assert env["OMP_NUM_THREADS"] == f"{of_each}"


def test_seeds_that_are_no_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["table_7", "--seeds", "0,x"])
    assert stop.value.code == 2
    assert "--seeds: '0,x': must be different whole numbers, such as 0,1,2" in capsys.readouterr().err


def test_no_experiment_fits_an_unknown_sweep() -> None:
    with pytest.raises(UserError, match="choose one of figure_2_left"):
        plan_jobs("figure_9", "smoke", [0], [])
    with pytest.raises(UserError, match="table_4 is of Google's own pairs, which are not public"):
        plan_jobs("table_4", "smoke", [0], [])


class ScriptJob(Job):
    """Runs the Python code of its only override; the code's argument is the record to be."""

    def start(self, num_threads: int) -> None:
        self.folder.path.mkdir(parents=True)
        with self.log.open("wb") as log:
            command = [sys.executable, "-c", *self.overrides, str(self.folder.record)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)


def make_job(folder: Path, code: str = "") -> Job:
    return ScriptJob(title=folder.name, overrides=[code], folder=RunFolder(folder), experts=0)


def test_translations_of_all_runs_stand_in_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = {name: RunFolder(tmp_path / name) for name in ("mt/moe_0 seed 0", "mt/moe_32 seed 0", "lm/moe_4 seed 0")}
    for name in list(folders)[:2]:
        folders[name].path.mkdir(parents=True)
        part = Translated(["a"], ["b"], [name.upper()], "nrefs:1")
        folders[name].translations("en-de").write_text(to_lines(part))
    folders["mt/moe_32 seed 0"].experts_text.write_text("a model\n\nencoder, expert 3: 1 words\n  1.000  [sea] \n")
    folders["mt/moe_32 seed 0"].experts_page.write_text("<html>")
    write_samples(folders, tmp_path, "smoke", "figure_4")
    text = (tmp_path / "translations_smoke.md").read_text()
    assert "- source: a\n- reference: b\n- mt/moe_0 seed 0: MT/MOE\\_0 SEED 0\n- mt/moe_32 seed 0: MT/MOE" in text
    assert "encoder, expert 3" in (tmp_path / "table_9_smoke.md").read_text()
    told = capsys.readouterr().out
    for path in ("translations_smoke.md", "table_9_smoke.md", "mt/moe_32 seed 0/experts.html"):
        assert str(tmp_path / path) in told
    write_samples({"lm/moe_4 seed 0": folders["lm/moe_4 seed 0"]}, tmp_path / "none", "smoke", "table_7")
    assert not (tmp_path / "none").exists()
    assert capsys.readouterr().out == ""
