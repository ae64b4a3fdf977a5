"""What processes send each other in a training step with sharded experts: counted."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

from outrageous.config import RunConfig
from outrageous.data.batching import Batch
from outrageous.optim.build import build_optimizer
from outrageous.parallel.processes import Processes
from outrageous.parallel.spread import shards_of, spread
from outrageous.parallel.traffic import Traffic, predict_traffic
from outrageous.training.language_module import LanguageModule
from outrageous.training.local_processes import in_processes

SENTENCE = 16  # words


@dataclass
class Count:
    """Of one process: bytes exchanged with others, bytes summed, the calls of both; rows of embedding and softmax that
    the batch uses; and bytes that its experts take: weights, gradients and the optimizer's state."""

    sent: int = 0
    summed: int = 0
    exchanges: int = 0
    sums: int = 0
    num_used: tuple[int, ...] = ()
    experts: int = 0


def measure_traffic(
    config: RunConfig, vocabulary_size: int, words_per_batch: int, sizes: list[int]
) -> list[dict[str, Any]]:
    """Of a first step on random words, for each number of processes: what was predicted, and what was counted, bytes as
    means over processes; and bytes of experts on the process that has most."""
    of_step = (config, vocabulary_size, words_per_batch)
    return [_row(*of_step, in_processes(count_step, size, *of_step)) for size in sizes]


def _row(config: RunConfig, vocabulary_size: int, words: int, counts: list[Count]) -> dict[str, Any]:
    first, size = counts[0], len(counts)
    assert all((each.exchanges, each.sums) == (first.exchanges, first.sums) for each in counts)
    with torch.device("meta"):
        model = LanguageModule(config, vocabulary_size, {}).model
    predicted = predict_traffic(model, words, size) if size > 1 else Traffic(0, 0, 0, 0, 0)
    return {
        "processes": size,
        "predicted": {"sent": predicted.sent, "summed": predicted.summed}
        | {"exchanges": predicted.exchanges, "sums": predicted.sums},
        "counted": {
            "sent": sum(each.sent for each in counts) / size,
            "summed": sum(each.summed for each in counts) / size,
            "exchanges": first.exchanges,
            "sums": first.sums,
        },
        "experts": max(each.experts for each in counts),
    }


def count_step(processes: Processes, config: RunConfig, vocabulary_size: int, words: int) -> Count:
    """Of one training step; to be called by all processes."""
    module = LanguageModule(config, vocabulary_size, {})
    module.processes, module.batches_are_divided = processes, True
    spread(module.model, processes, shard_experts=True)
    torch.manual_seed(0)
    sentences = module.model.softmax.sampler.draw(words // SENTENCE * SENTENCE, torch.device("cpu")).view(-1, SENTENCE)
    mine = sentences[processes.rank :: processes.size]
    batch = Batch(mine, mine, torch.ones_like(mine, dtype=torch.bool), torch.arange(mine.numel()))
    with _counting(processes.rank) as count:
        module.training_step(batch, 0)["loss"].backward()
        module.gradients_and_norm()
    tables = (module.model.embedding.weight, module.model.softmax.weight)
    count.num_used = tuple(int((table.grad != 0).any(dim=1).sum()) for table in tables if table.grad is not None)
    optimizer = build_optimizer(module.model, config.optim)
    optimizer.step()
    shards = shards_of(module)
    for weight in (weight for name, weight in module.named_parameters() if name in shards):
        tensors = [weight, weight.grad, *optimizer.state[weight].values()]
        count.experts += sum(tensor.nbytes for tensor in tensors if tensor is not None and tensor.dim())
    return count


@contextmanager
def _counting(rank: int) -> Iterator[Count]:
    """Counts what torch.distributed is asked to do within."""
    count = Count()
    all_reduce, all_to_all_single = dist.all_reduce, dist.all_to_all_single

    def counted_sum(tensor: Tensor, *op: Any, **options: Any) -> Any:
        count.sums += 1
        count.summed += tensor.nbytes
        return all_reduce(tensor, *op, **options)

    def counted_exchange(output: Tensor, rows: Tensor, receive: list[int], send: list[int]) -> None:
        count.exchanges += 1
        bytes_of_row = rows.element_size() * math.prod(rows.shape[1:])
        count.sent += (sum(send) - send[rank]) * bytes_of_row
        all_to_all_single(output, rows, receive, send)

    with mock.patch.multiple(dist, all_reduce=counted_sum, all_to_all_single=counted_exchange):
        yield count
