"""The runs of a sweep as processes of their own, a few at once, and how far they are."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outrageous.commands.compose import CONF, any_config, compose_train
from outrageous.commands.sweep_display import SweepDisplay
from outrageous.errors import UserError
from outrageous.results.records import Record, in_its_row, read_record
from outrageous.training.run_folder import RunFolder, run_folder
from outrageous.training.tasks import prepare

SECONDS_BETWEEN_LOOKS = 0.5
NOT_SWEPT = {
    "table_4": "table_4 is of Google's own pairs, which are not public; figure_4 has the same models on public ones",
    "table_9": "table_9 shows one model's experts: outrageous-experts checkpoint=….ckpt",
}


@dataclasses.dataclass
class Job:
    """One run, as the process that will do it.

    Attributes:
        overrides: what `outrageous-train` is given.
        experts: of the model; the largest runs start first, so that none is left to run alone at the end.
        devices: processes that it starts in turn.
    """

    title: str
    overrides: list[str]
    folder: RunFolder
    experts: int
    devices: int = 1
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder.path / "log.txt"

    @property
    def finished(self) -> bool:
        return self.folder.record.exists()

    def record(self) -> Record:
        return in_its_row(read_record(self.folder.record))

    def start(self, num_threads: int) -> None:
        """Starts the process, which shares so many threads among its devices; its output goes to the log."""
        of_device = max(1, num_threads // self.devices)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "outrageous.commands.train", *self.overrides]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, f"trainer.num_threads={of_device}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Fixed before the libraries start their thread pools, which would else compete for the cores.
                env={**os.environ, "OMP_NUM_THREADS": str(of_device)},
            )

    def progress(self) -> dict[str, Any]:
        """What the run last wrote of itself; empty before its first step."""
        try:
            status: dict[str, Any] = json.loads(self.folder.progress.read_text())
            return status
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def last_words(self) -> str:
        """The log's last error, or else its last line."""
        lines = self.log.read_text(errors="replace").replace("\r", "\n").split("\n")
        said = [line.strip() for line in lines if line.strip() and "HYDRA_FULL_ERROR" not in line]
        errors = [line for line in said if "error" in line.lower()]
        return (errors or said or ["no output"])[-1]


def plan_jobs(sweep: str, scale: str, seeds: list[int], settings: list[str]) -> tuple[list[Job], Path]:
    """Every run of the sweep, checked before the first one starts, and the folder of all runs; prepares the corpus.

    Raises:
        UserError: a setting or the text does not allow it.
    """
    jobs = []
    for swept in _runs_of(sweep, settings):
        for seed in seeds:
            overrides = [
                *swept,
                f"scale={scale}",
                f"seed={seed}",
                f"logger.group={sweep}",
                f"logger.tags=[{sweep}]",
                *settings,
            ]
            config = any_config(overrides)
            folder = run_folder(config, prepare(config).fingerprint)
            experts = config.model.moe.num_experts if config.model.moe else 0
            jobs.append(Job(f"{config.name} seed {seed}", overrides, folder, experts, config.trainer.devices))
    return sorted(jobs, key=lambda job: -job.experts), Path(config.paths.runs)


def run_jobs(jobs: list[Job], at_once: int) -> list[Job]:
    """Runs what is not finished, `at_once` at a time, sharing the cores; returns the runs that failed."""
    waiting = [job for job in jobs if not job.finished]
    at_once = max(1, min(at_once, len(waiting)))
    num_threads = max(1, (os.cpu_count() or 1) // at_once)
    running: list[Job] = []
    failed: list[Job] = []
    with _stopping(running), SweepDisplay(len(jobs), len(jobs) - len(waiting)) as display:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                job.start(num_threads)
                running.append(job)
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for job in [job for job in running if job.process and job.process.poll() is not None]:
                running.remove(job)
                if not job.finished:
                    failed.append(job)
                display.ended(job.title, job.finished)
            display.show({job.title: job.progress() for job in running}, len(waiting), at_once)
    return failed


@contextmanager
def _stopping(running: list[Job]) -> Iterator[None]:
    """Leaves no process behind, however the block ends: by Ctrl-C, by SIGTERM, by an error."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        for job in running:
            assert job.process is not None
            job.process.terminate()
        for job in running:
            assert job.process is not None
            job.process.wait()
        signal.signal(signal.SIGTERM, before)


def _runs_of(sweep: str, settings: list[str]) -> list[list[str]]:
    """The overrides of each run that a file under conf/sweep names: every experiment, with every corpus if it names
    several and the settings name none."""
    if not (CONF / "sweep" / f"{sweep}.yaml").is_file():
        if sweep in NOT_SWEPT:
            raise UserError(NOT_SWEPT[sweep])
        known = ", ".join(sorted(file.stem for file in (CONF / "sweep").glob("*.yaml")))
        raise UserError(f"there is no sweep {sweep!r}: choose one of {known}")
    params = compose_train([f"sweep={sweep}"], with_hydra=True).hydra.sweeper.params
    given = {setting.split("=")[0] for setting in settings}
    choices = [
        [f"{key}={value.strip()}" for value in values.split(",")] for key, values in params.items() if key not in given
    ]
    return [list(run) for run in itertools.product(*choices)]
