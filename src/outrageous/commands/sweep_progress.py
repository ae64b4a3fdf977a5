"""How far a Hydra multirun is, and how long it may still take."""

import sys
import time
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SweepProgress(Callback):
    """Prints one line before each run of a multirun."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
        overrides = OverridesParser.create().parse_overrides(params + list(config.hydra.overrides.task))
        self._num_runs = len(BasicSweeper.split_arguments(overrides, max_batch_size=None)[0])
        self._num_done, self._start = 0, time.monotonic()

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        if not hasattr(self, "_num_runs"):  # a single run
            return
        left = ""
        if self._num_done:
            minutes = (time.monotonic() - self._start) / self._num_done * (self._num_runs - self._num_done) / 60
            left = f", about {minutes:.0f} min left"
        overrides = " ".join(config.hydra.overrides.task)
        print(f"sweep: run {self._num_done + 1} of {self._num_runs}{left}: {overrides}", file=sys.stderr)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if hasattr(self, "_num_runs"):
            self._num_done += 1
