"""What spreading experts over processes costs on one, and gains on several."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch.distributed as dist
from tqdm import tqdm

from outrageous.config import RunConfig
from outrageous.data.corpus import Corpus, prepare_corpus
from outrageous.parallel.processes import PendingSum, Processes
from outrageous.training.benchmark import Stepper, batches_forever
from outrageous.training.libraries import set_up_cpu
from outrageous.training.local_processes import in_processes

STEPS_PER_TURN = 4  # that count; one before them finds what the others have left of caches and memory


@dataclass(frozen=True)
class Way:
    """To train: whether by the code of spread experts, on how many processes of how many threads each."""

    spread: bool
    processes: int
    threads: int


@dataclass(frozen=True)
class Turn:
    """Of the first process: a step's words of all, its seconds, and those within exchanges and sums."""

    words: float
    seconds: float
    in_calls: float

    @property
    def words_per_second(self) -> float:
        return self.words / self.seconds


def measure_sharding(config: RunConfig, threads: int, num_rounds: int) -> dict[str, Any]:
    """Of each way median words/s of training steps, the median over rounds of its words/s over those of the way it is
    to be compared with, and the share of time within exchanges and sums, waiting for others included.

    Experts spread over one process are compared with the model as it is, on so many `threads`; `trainer.devices`
    processes of so many threads each, with one process that has as many threads as they have together. In each round
    each way takes a turn, with the same batches.

    Raises:
        UserError: the corpus cannot be read.
    """
    size = config.trainer.devices
    alone, together = Way(False, 1, threads), Way(False, 1, size * threads)
    compared_with = {Way(True, 1, threads): alone, Way(True, size, threads): together}
    ways = [alone, Way(True, 1, threads), together, Way(True, size, threads)]
    prepare_corpus(config.data, Path(config.paths.corpora))
    found, *_ = in_processes(_take_turns, size, ways, config, num_rounds)
    turns = dict(zip(ways, found, strict=True))
    rows = [_row(way, turns[way], turns[compared_with.get(way, way)]) for way in ways]
    return {"experiment": config.name, "num_rounds": num_rounds, "num_steps": STEPS_PER_TURN, "rows": rows}


def _row(way: Way, ours: list[Turn], others: list[Turn]) -> dict[str, Any]:
    return asdict(way) | {
        "words_per_second": statistics.median(turn.words_per_second for turn in ours),
        "ratio": statistics.median(
            mine.words_per_second / other.words_per_second for mine, other in zip(ours, others, strict=True)
        ),
        "in_calls": statistics.median(turn.in_calls / turn.seconds for turn in ours),
    }


def _take_turns(processes: Processes, ways: list[Way], config: RunConfig, num_rounds: int) -> list[list[Turn]]:
    """Of each way, on the first process; the others take part where they are needed, and wait."""
    corpus = prepare_corpus(config.data, Path(config.paths.corpora))
    teams = [_Team(way, processes.rank, config, corpus) for way in ways if processes.rank < way.processes]
    with tqdm(range(num_rounds), "sharding", disable=True if processes.rank else None) as rounds:
        for number in rounds:
            for team in teams[number % len(teams) :] + teams[: number % len(teams)]:
                team.take_turn()
    return [team.turns for team in teams]


class _Team:
    """The processes of one way, as one of them sees it."""

    def __init__(self, way: Way, rank: int, config: RunConfig, corpus: Corpus) -> None:
        self.way, self.processes = way, Processes(rank, way.processes)
        self.turns: list[Turn] = []
        self._stepper = Stepper(config, len(corpus.vocabulary), self.processes if way.spread else None)
        self._batches = batches_forever(corpus, config.trainer.words_per_batch, self.processes)

    def take_turn(self) -> None:
        set_up_cpu(self.way.threads)
        first, *others = [next(self._batches) for _ in range(1 + STEPS_PER_TURN)]
        self._stepper.step(first)
        with _timing() as in_calls:
            start = time.perf_counter()
            for batch in others:
                self._stepper.step(batch)
            self.processes.totals(0)  # until the last of them is done
            seconds = time.perf_counter() - start
        (words,) = self.processes.totals(sum(batch.num_tokens for batch in others))
        self.turns.append(Turn(words / STEPS_PER_TURN, seconds / STEPS_PER_TURN, sum(in_calls) / STEPS_PER_TURN))


@contextmanager
def _timing() -> Iterator[list[float]]:
    """Seconds of each exchange and sum within, and of waiting for sums that were started before."""
    seconds: list[float] = []

    def timed(call: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = call(*arguments, **options)
            seconds.append(time.perf_counter() - start)
            return result

        return wrapped

    names = ("all_reduce", "all_to_all_single")
    waiting = mock.patch.object(PendingSum, "wait", timed(PendingSum.wait))
    with waiting, mock.patch.multiple(dist, **{name: timed(getattr(dist, name)) for name in names}):
        yield seconds
