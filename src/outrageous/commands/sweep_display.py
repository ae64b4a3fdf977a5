"""A sweep on the terminal: a bar for each run in progress, one for the whole, and the time left."""

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

SECONDS_BETWEEN_LINES = 60.0  # where the output is no terminal, a line now and then


class SweepDisplay:
    """Use as a context manager; `show` as often as one likes."""

    def __init__(self, num_runs: int, num_finished: int) -> None:
        self._num_runs, self._num_finished = num_runs, num_finished
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._whole = self._progress.add_task("all runs", total=num_runs, completed=num_finished, note="")
        self._tasks: dict[str, TaskID] = {}
        self._first_seen: dict[str, tuple[float, int]] = {}  # title -> when, step
        self._run_seconds: dict[str, float] = {}  # title -> how long the whole run takes, as far as one can tell
        self._last_line = time.monotonic()
        if num_finished:
            self._say(f"{num_finished} of {num_runs} runs were finished before")

    def __enter__(self) -> "SweepDisplay":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, running: dict[str, dict[str, Any]], num_waiting: int, at_once: int) -> None:
        """running: by title, what each run wrote of itself."""
        left = [self._show_run(title, status) for title, status in running.items()]
        note = ""
        if left and None not in left:
            known = [seconds for seconds in left if seconds is not None]
            waiting = num_waiting * sum(self._run_seconds.values()) / len(self._run_seconds)
            note = f"about {max(max(known), (sum(known) + waiting) / at_once) / 60:.0f} min left"
        self._progress.update(self._whole, completed=self._num_finished, note=note)
        if not self._console.is_terminal and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            runs = "; ".join(f"{title} {_describe(status)}" for title, status in running.items())
            self._say(f"{self._num_finished} of {self._num_runs} runs finished, {note or 'starting'}; {runs}")

    def ended(self, title: str, finished: bool) -> None:
        self._num_finished += finished
        if title in self._tasks:
            self._progress.remove_task(self._tasks.pop(title))
        self._say(f"{title} {'finished' if finished else 'FAILED'}: {self._num_finished} of {self._num_runs} runs done")

    def _show_run(self, title: str, status: dict[str, Any]) -> float | None:
        """Returns the seconds that the run still takes, None if that cannot be told yet."""
        if not status:
            return None
        step, num_steps, now = status["step"], status["num_steps"], time.monotonic()
        if title not in self._tasks:
            self._tasks[title] = self._progress.add_task(title, total=num_steps, note="")
        self._progress.update(self._tasks[title], completed=step, note=_describe(status))
        since, first_step = self._first_seen.setdefault(title, (now, step))
        if step == first_step:
            return None
        seconds_per_step = (now - since) / (step - first_step)
        self._run_seconds[title] = seconds_per_step * num_steps
        return seconds_per_step * (num_steps - step)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False) if self._console.is_terminal else print(line, file=sys.stderr)


def _describe(status: dict[str, Any]) -> str:
    if not status:
        return "starting"
    dev = status["dev_perplexity"]
    words = f"step {status['step']:,} of {status['num_steps']:,}, {status['words_per_second']:,.0f} words/s"
    return words + (f", dev perplexity {dev:.2f}" if dev is not None else "")
