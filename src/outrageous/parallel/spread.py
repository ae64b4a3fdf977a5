"""Spreads a model over processes, in one place to read."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from outrageous.models.sampled_softmax import VocabularySoftmax
from outrageous.moe import MoE
from outrageous.parallel.gradients import sum_in_place
from outrageous.parallel.moe import ReplicatedMoE, ShardedMoE
from outrageous.parallel.processes import Processes
from outrageous.parallel.shards import Shard


def spread(model: nn.Module, processes: Processes, shard_experts: bool) -> None:
    """Has every MoE of the model work on this process's part of a batch; all else of a model knows nothing of others.

    Args:
        model: with the same weights on every process.
        shard_experts: whether each process keeps its own experts only; otherwise all keep all.

    Raises:
        ValueError: there are fewer experts, or groups of a hierarchy, than processes.
    """
    kind = ShardedMoE if shard_experts else ReplicatedMoE
    for name, module in list(model.named_modules()):
        if isinstance(module, MoE) and not isinstance(module, ReplicatedMoE | ShardedMoE):
            spread_moe = kind(module, processes)
            spread_moe.train(module.training)
            model.set_submodule(name, spread_moe)


def shards_of(model: nn.Module) -> dict[str, Shard]:
    """Of each parameter that is here in part, by its name in the model."""
    return {
        f"{name}.experts.{parameter_name}": module.shard
        for name, module in model.named_modules()
        if isinstance(module, ShardedMoE)
        for parameter_name, _ in module.experts.named_parameters()
    }


def sum_gradients(model: nn.Module, processes: Processes, others: Sequence[Tensor] = ()) -> Tensor:
    """After each process's backward pass, of its share of a batch: from then on gradients are those of the batch. Those
    of experts that are on one process alone are so already; returns the sum of their squares, over all processes. A
    parameter without a gradient on some process counts as zeros there.

    others: what else is to be summed in place, in the same call if it is of the gradients' dtype.
    """
    shards = shards_of(model)
    parameters = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    of_experts = [weight.grad for name, weight in parameters.items() if name in shards and weight.grad is not None]
    squares = torch.nn.utils.get_total_norm(of_experts) ** 2
    if processes.size == 1:
        return squares
    tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding | VocabularySoftmax)}
    everywhere = [*others, squares] if of_experts else [*others]
    in_tables: list[Tensor] = []
    for name, weight in parameters.items():
        if name not in shards:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            (in_tables if weight in tables else everywhere).append(weight.grad)
    sum_in_place(everywhere, in_tables, processes)
    return squares
