"""Which optimizer trains what."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from outrageous.config import ExpertOptimizer, OptimizerConfig, TableOptimizer
from outrageous.models.sampled_softmax import VocabularySoftmax
from outrageous.moe import FeedForwardExperts, MoE, SoftmaxGate
from outrageous.optim.build import build_optimizer
from outrageous.optim.combined import CombinedOptimizer
from outrageous.optim.factored_adam import FactoredAdam
from outrageous.optim.gradient_free import GradientFreeFactoredAdam

CONFIG = OptimizerConfig(learning_rate=0.5, beta1=0.25, beta2=0.75, epsilon=1e-3, max_grad_norm=None)


@pytest.fixture
def bank() -> FeedForwardExperts:
    return FeedForwardExperts(2, 4, 8)


@pytest.fixture
def model(bank: FeedForwardExperts) -> nn.ModuleList:
    return nn.ModuleList([nn.Linear(4, 4), MoE(SoftmaxGate(4, 2), bank), nn.Linear(4, 4)])


def test_adam_trains_everything_where_experts_are_like_the_rest(model: nn.ModuleList) -> None:
    optimizer = build_optimizer(model, CONFIG)
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["params"] == list(model.parameters())


@pytest.mark.parametrize(
    ("experts", "expected"),
    [
        (ExpertOptimizer.factored_adam, FactoredAdam),
        (ExpertOptimizer.gradient_free, GradientFreeFactoredAdam),
    ],
)
def test_experts_have_an_optimizer_of_their_own(
    model: nn.ModuleList, bank: FeedForwardExperts, experts: ExpertOptimizer, expected: type
) -> None:
    optimizer = build_optimizer(model, replace(CONFIG, experts=experts))
    assert isinstance(optimizer, CombinedOptimizer)
    adam, factored = optimizer.parts
    weights = list(bank.parameters())
    assert (type(adam), type(factored)) == (torch.optim.Adam, expected)
    assert [id(p) for p in factored.param_groups[0]["params"]] == [id(p) for p in weights]
    rest = {*model.parameters()} - {*weights}
    assert {*adam.param_groups[0]["params"]} == rest
    assert len(adam.param_groups[0]["params"]) == len(rest)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}
    assert adam.param_groups[0]["betas"] == (0.25, 0.75)
    assert factored.param_groups[0]["beta2"] == 0.75
    assert [group["eps"] for group in optimizer.param_groups] == [1e-3, 1e-3]


@pytest.mark.parametrize("kind", list(ExpertOptimizer))
def test_experts_may_have_a_learning_rate_of_their_own(
    model: nn.ModuleList, bank: FeedForwardExperts, kind: ExpertOptimizer
) -> None:
    optimizer = build_optimizer(model, replace(CONFIG, experts=kind, experts_learning_rate=0.125))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    experts = {id(p) for p in bank.parameters()}
    assert rates == {id(p): 0.125 if id(p) in experts else 0.5 for p in model.parameters()}


def test_the_same_learning_rate_apart_trains_as_one_for_all(model: nn.ModuleList) -> None:
    trained = []
    for rate in (None, 0.5):
        copy = deepcopy(model)
        optimizer = build_optimizer(copy, replace(CONFIG, experts_learning_rate=rate))
        for parameter in copy.parameters():
            parameter.grad = torch.full_like(parameter, 0.25)
        optimizer.step()
        trained.append(list(copy.parameters()))
    for one, apart in zip(*trained, strict=True):
        torch.testing.assert_close(one, apart, rtol=0, atol=0)


def test_a_model_without_experts_is_trained_by_adam() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), replace(CONFIG, experts=ExpertOptimizer.gradient_free))
    assert isinstance(optimizer, torch.optim.Adam)


@pytest.fixture
def language_model(bank: FeedForwardExperts) -> nn.ModuleList:
    """Its parts: tables of 9 words, and 2 classes sampled."""
    moe = MoE(SoftmaxGate(4, 2), bank)
    return nn.ModuleList([nn.Embedding(9, 4), moe, VocabularySoftmax(9, 4, num_sampled=2)])


@pytest.mark.parametrize(
    ("tables", "expected"),
    [(TableOptimizer.sparse_adam, torch.optim.SparseAdam), (TableOptimizer.factored_adam, FactoredAdam)],
)
@pytest.mark.parametrize("experts", [ExpertOptimizer.adam, ExpertOptimizer.factored_adam])
def test_tables_have_an_optimizer_of_their_own(
    language_model: nn.ModuleList, tables: TableOptimizer, expected: type, experts: ExpertOptimizer
) -> None:
    optimizer = build_optimizer(language_model, replace(CONFIG, tables=tables, experts=experts))
    assert isinstance(optimizer, CombinedOptimizer)
    assert len(optimizer.parts) == (2 if experts is ExpertOptimizer.adam else 3)
    last = optimizer.parts[-1]
    assert type(last) is expected
    assert [p.shape for p in last.param_groups[0]["params"]] == [(9, 4), (9, 4)]
    trained = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(trained) == sorted(map(id, language_model.parameters()))
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}


def train_tables(tables: TableOptimizer, words: list[list[int]]) -> torch.Tensor:
    """The embedding after a step for each of these batches, whose loss is the square of the looked-up rows over 2."""
    torch.manual_seed(0)
    table = nn.Embedding(3, 2)
    config = replace(CONFIG, tables=tables, epsilon=1e-8)  # which each corrects in its way
    optimizer = build_optimizer(nn.ModuleList([table, nn.Linear(1, 1)]), config)
    for batch in words:
        optimizer.zero_grad()
        (table(torch.tensor(batch)).square().sum() / 2).backward()
        optimizer.step()
    return table.weight.detach()


def test_adam_on_the_rows_used_is_adam_where_all_are_used() -> None:
    words = [[0, 1, 2, 1], [2, 1, 0], [0, 0, 1, 2]]
    expected = train_tables(TableOptimizer.adam, words)
    torch.testing.assert_close(train_tables(TableOptimizer.sparse_adam, words), expected)


def test_adam_on_the_rows_used_leaves_the_others_and_corrects_for_all_steps() -> None:
    """Word 2 comes in step 3 alone. Its row w has the gradient w, so m = 0.75·w and v = 0.25·w²; corrected, with β₁ = ¼
    and β₂ = ¾: m / (1 - ¼³) and v / (1 - ¾³). Step 3 moves it by 0.5·m̂/√v̂, step 4 not at all."""
    start, end = (
        train_tables(TableOptimizer.sparse_adam, []),
        train_tables(TableOptimizer.sparse_adam, [[0, 1], [0, 1], [2, 0], [0, 1]]),
    )
    m, v = 0.75 * start[2] / (1 - 1 / 64), 0.25 * start[2] ** 2 / (1 - 27 / 64)
    torch.testing.assert_close(end[2], start[2] - 0.5 * m / v.sqrt())
    in_adam = train_tables(TableOptimizer.adam, [[0, 1], [0, 1], [2, 0], [0, 1]])
    assert (in_adam[2] - end[2]).abs().min() > 0.01
