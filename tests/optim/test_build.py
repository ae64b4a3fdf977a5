"""Which optimizer trains what."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from outrageous.config import ExpertOptimizer, OptimizerConfig
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
