"""Losses, gradients and weights of 20 steps do not depend on how many processes there are, noise and dropout on."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outrageous.config import GateConfig, GateKind, LanguageModelConfig, Layer, MoEConfig
from outrageous.models.language_model import LanguageModel
from outrageous.moe import balancing_loss
from outrageous.moe.part import at_hand
from outrageous.parallel.numbered import Draws, NumberedPart
from outrageous.parallel.processes import Processes
from outrageous.parallel.spread import shards_of, spread, sum_gradients

NUM_STEPS, NUM_SENTENCES, VOCABULARY = 20, 7, 11
LENGTHS = [9, 8, 8, 7, 5, 3, 1]  # not all alike, and with 4 processes one has one sentence only

FLAT = MoEConfig(GateConfig(GateKind.noisy_top_k, 2), num_experts=5, d_hidden=[6])
HIERARCHICAL = replace(FLAT, num_experts=12, num_groups=4)
CONFIGS = {
    "flat": FLAT,
    "dense": replace(FLAT, gate=GateConfig(GateKind.softmax)),
    "hierarchical": HIERARCHICAL,
    "balanced": replace(FLAT, gate=GateConfig(GateKind.strictly_balanced, 2)),
    "balanced hierarchy": replace(HIERARCHICAL, gate=GateConfig(GateKind.strictly_balanced, 2)),
}


@dataclass
class Trained:
    """What a training left behind: of each step [steps] the loss, and the gradient's norm; of each parameter the
    gradients of all steps [steps, ...], before the optimizer sees them; all weights."""

    losses: Tensor
    norms: Tensor
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]
    loads: Tensor


def build(moe: MoEConfig, dtype: torch.dtype) -> LanguageModel:
    torch.manual_seed(0)
    layers = [Layer.lstm, Layer.moe]
    config = LanguageModelConfig(d_model=4, lstm_units=4, layers=layers, dropout=0.3, num_sampled=3, moe=moe)
    model = LanguageModel(config, VOCABULARY).to(dtype)
    for name, parameter in model.named_parameters():
        if "gate" in name or "w_noise" in name:  # start unevenly, to choose otherwise than at random
            nn.init.normal_(parameter, std=0.5)
    return model


def batch(step: int, processes: Processes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, targets and mask [B, L] of this process's sentences, and their numbers [B]; of padding if it has none.

    Every fourth batch has two sentences only.
    """
    generator = torch.Generator().manual_seed(step)
    words = torch.randint(VOCABULARY, (NUM_SENTENCES, 10), generator=generator)
    mine = torch.arange(num_sentences(step))[processes.rank :: processes.size]
    if not len(mine):
        return words[:1, :1], words[:1, :1], torch.zeros(1, 1, dtype=torch.bool), torch.tensor([processes.rank])
    lengths = torch.tensor(LENGTHS)[mine]
    longest = int(lengths.max())
    mask = torch.arange(longest) < lengths.unsqueeze(1)
    return words[mine, :longest], words[mine, 1 : longest + 1], mask, mine


def num_sentences(step: int) -> int:
    return 2 if step % 4 == 3 else NUM_SENTENCES


def train(
    moe: MoEConfig,
    processes: Processes,
    spread_model: Callable[[nn.Module], None],
    dtype: torch.dtype = torch.float64,
) -> Trained:
    model = build(moe, dtype)
    spread_model(model)
    shards = shards_of(model)
    sharded = {parameter for name, parameter in model.named_parameters() if name in shards}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses, norms, loads = [], [], []
    gradients: dict[str, list[Tensor]] = defaultdict(list)
    for step in range(NUM_STEPS):
        inputs, targets, mask, numbers = batch(step, processes)
        with at_hand(NumberedPart(processes, Draws(step), numbers)):
            hidden, (report,) = model(inputs, mask)
        logits = F.linear(hidden, model.softmax.weight, model.softmax.bias)
        loss = F.cross_entropy(logits, targets[mask], reduction="sum") / sum(LENGTHS[: num_sentences(step)])
        loss = loss + (balancing_loss(report, 0.1, 0.1) + report.threshold_loss) / processes.size
        optimizer.zero_grad()
        loss.backward()
        loss_of_all = loss.detach().clone()
        squares_of_shards = sum_gradients(model, processes, [loss_of_all])
        others = {weight: weight.grad.square().sum() for weight in model.parameters() if weight.grad is not None}
        for weight in sharded:
            del others[weight]
        norms.append((torch.stack(list(others.values())).sum() + squares_of_shards).sqrt())
        losses.append(loss_of_all)
        for name, weight in model.named_parameters():
            gradients[name].append(torch.zeros_like(weight) if weight.grad is None else weight.grad.clone())
        loads.append(torch.cat([report.load.detach(), report.importance.detach(), report.tokens_per_expert]))
        optimizer.step()
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    of_steps = {name: torch.stack(each) for name, each in gradients.items()}
    return Trained(torch.stack(losses), torch.stack(norms), of_steps, weights, torch.stack(loads))


def assert_same(ours: list[Trained], expected: Trained, shard_experts: bool) -> None:
    close: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}
    for process in ours:
        torch.testing.assert_close(process.losses, expected.losses, **close)
        torch.testing.assert_close(process.norms, expected.norms, **close)
        torch.testing.assert_close(process.loads, expected.loads, **close)
    for name, weight in expected.weights.items():
        is_sharded = shard_experts and ".experts." in name
        for mine in whole([process.weights[name] for process in ours], is_sharded, dim=0):
            torch.testing.assert_close(mine, weight, **close)
        for mine in whole([process.gradients[name] for process in ours], is_sharded, dim=1):
            torch.testing.assert_close(mine, expected.gradients[name], **close)


def whole(of_processes: list[Tensor], is_sharded: bool, dim: int) -> list[Tensor]:
    """What processes have of a parameter: each all of it, or together."""
    return [torch.cat(of_processes, dim)] if is_sharded else of_processes


@pytest.fixture(scope="module")
def expected() -> dict[str, Trained]:
    """Of one process with the layer as it is."""
    return {kind: train(moe, Processes(), lambda model: None) for kind, moe in CONFIGS.items()}


@pytest.mark.parametrize(
    ("size", "shard_experts"),
    [(1, True), (2, True), (3, True), (4, True), (1, False), (3, False)],
    ids=["1 sharded", "2 sharded", "3 sharded", "4 sharded", "1 replicated", "3 replicated"],
)
def test_losses_gradients_and_weights_are_those_of_one_process(
    together: Callable[..., list[Any]], expected: dict[str, Trained], size: int, shard_experts: bool
) -> None:
    def all_kinds(processes: Processes) -> dict[str, Trained]:
        return {
            kind: train(moe, processes, lambda model: spread(model, processes, shard_experts))
            for kind, moe in CONFIGS.items()
        }

    results = together(all_kinds, size)
    for kind in CONFIGS:
        assert expected[kind].losses.isfinite().all()
        assert_same([result[kind] for result in results], expected[kind], shard_experts)


@pytest.fixture(scope="module")
def expected_in_single_precision() -> dict[str, Trained]:
    return {kind: train(moe, Processes(), lambda model: None, torch.float32) for kind, moe in CONFIGS.items()}


@pytest.mark.parametrize("size", [2, 3, 4])
def test_in_single_precision_losses_and_gradients_agree_to_a_millionth(
    together: Callable[..., list[Any]], expected_in_single_precision: dict[str, Trained], size: int
) -> None:
    def all_kinds(processes: Processes) -> dict[str, Trained]:
        return {
            kind: train(moe, processes, lambda model: spread(model, processes, True), torch.float32)
            for kind, moe in CONFIGS.items()
        }

    results = together(all_kinds, size)
    for kind, expected in expected_in_single_precision.items():
        for process in results:
            torch.testing.assert_close(process[kind].losses, expected.losses, rtol=1e-6, atol=0)
            torch.testing.assert_close(process[kind].norms, expected.norms, rtol=1e-6, atol=0)
        square_off, square_norm = torch.zeros(NUM_STEPS), torch.zeros(NUM_STEPS)
        for name, gradients in expected.gradients.items():
            for mine in whole([process[kind].gradients[name] for process in results], ".experts." in name, dim=1):
                off, norms = (mine - gradients).flatten(1).norm(dim=1), gradients.flatten(1).norm(dim=1)
                assert off[0] <= 1e-6 * norms[0], (kind, name)
                assert (off <= 3e-6 * norms).all(), (kind, name)  # rounding of 20 steps has moved the weights too
            square_off, square_norm = square_off + off.square(), square_norm + norms.square()
        assert (square_off.sqrt() <= 1e-6 * square_norm.sqrt()).all(), kind  # the whole gradient, in every step
