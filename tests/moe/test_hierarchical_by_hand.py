"""Hierarchical mixtures: the paper's figures worked by hand, who does any work, and what is refused."""

import math

import pytest
import torch
from torch import nn

from outrageous.moe import (
    FeedForwardExperts,
    Mixtures,
    MoE,
    NoisyTopKGate,
    NoisyTopKGates,
    StrictlyBalancedGate,
    StrictlyBalancedGates,
    cv_squared,
)

D_MODEL = 3
GATES: dict[str, tuple[type, type]] = {
    "noisy": (NoisyTopKGate, NoisyTopKGates),
    "balanced": (StrictlyBalancedGate, StrictlyBalancedGates),
    "balanced within noisy": (NoisyTopKGate, StrictlyBalancedGates),
}


def build(kind: str, num_groups: int, per_group: int, k: int, k_within: int) -> MoE:
    primary, secondary = GATES[kind]
    gates = secondary(num_groups, D_MODEL, per_group, k_within)
    experts = FeedForwardExperts(num_groups * per_group, D_MODEL, 4)
    layer = MoE(primary(D_MODEL, num_groups, k), Mixtures(gates, experts)).double()
    for name, weight in layer.named_parameters():
        if name.endswith(("w_gate", "w_noise")):
            nn.init.normal_(weight)
    return layer


def layer_of_logits(primary: list[list[float]], secondary: list[list[list[float]]], k: int, k_within: int) -> MoE:
    """In evaluation and with std = ln 2, a layer in which token t, the t-th unit vector, has the logits primary[t] [A],
    and in group i secondary[i][t] [B]."""
    d_model, num_groups, per_group = len(primary), len(secondary), len(secondary[0][0])
    gates = NoisyTopKGates(num_groups, d_model, per_group, k_within)
    experts = FeedForwardExperts(num_groups * per_group, d_model, 2)
    layer = MoE(NoisyTopKGate(d_model, num_groups, k), Mixtures(gates, experts)).double().eval()
    with torch.no_grad():
        layer.gate.get_parameter("w_gate").copy_(torch.tensor(primary, dtype=torch.float64))
        gates.w_gate.copy_(torch.tensor(secondary, dtype=torch.float64))
    return layer


def test_importance_by_hand() -> None:
    # Two tokens use both groups and both experts of each. e^0 : e^ln3 = 1 : 3.
    # G_primary: token 0 (3/4, 1/4), token 1 (1/5, 4/5)
    # G_0:       token 0 (1/2, 1/2), token 1 (1/3, 2/3);   G_1: token 0 (1/4, 3/4), token 1 (1/2, 1/2)
    ln = math.log
    layer = layer_of_logits(
        primary=[[ln(3), 0], [0, ln(4)]],
        secondary=[[[0, 0], [0, ln(2)]], [[0, ln(3)], [5, 5]]],
        k=2,
        k_within=2,
    )
    _, report = layer(torch.eye(2, dtype=torch.float64))
    # (0,0): 3/4·1/2 + 1/5·1/3 = 53/120    (0,1): 3/4·1/2 + 1/5·2/3 = 61/120
    # (1,0): 1/4·1/4 + 4/5·1/2 = 37/80     (1,1): 1/4·3/4 + 4/5·1/2 = 47/80;   their sum is 2, one for each token
    assert report.importance.tolist() == pytest.approx([53 / 120, 61 / 120, 37 / 80, 47 / 80], abs=1e-12)
    assert report.load.tolist() == pytest.approx([2, 2, 2, 2])  # whoever uses all loses none
    assert report.tokens_per_expert.tolist() == [2, 2, 2, 2]


def test_load_by_hand() -> None:
    # k = 1 at both levels; logits in units of the noise's standard deviation, Φ(a - b) for the only rival's b.
    # Primary: token 0 (1, 0), token 1 (2, 0), token 2 (0, 1), so X^(0) = {0, 1} and X^(1) = {2}.
    # Load_primary = (Φ(1) + Φ(2) + Φ(-1), Φ(-1) + Φ(-2) + Φ(1)) = (1.9772499, 1.0227501)
    # Group 0: token 0 (0, 3), token 1 (1, 0): Load_0 = (Φ(-3) + Φ(1), Φ(3) + Φ(-1)) = (0.8426946, 1.1573054)
    # Group 1: token 2 (2, 0):                 Load_1 = (Φ(2), Φ(-2)) = (0.9772499, 0.0227501)
    ln2 = math.log(2)
    layer = layer_of_logits(
        primary=[[ln2, 0], [2 * ln2, 0], [0, ln2]],
        secondary=[[[0, 3 * ln2], [ln2, 0], [9, -9]], [[-9, 9], [9, -9], [2 * ln2, 0]]],  # ±9: of others' tokens
        k=1,
        k_within=1,
    )
    _, report = layer(torch.eye(3, dtype=torch.float64))
    # Load_H = 1.9772499 · Load_0 / 2 for group 0, and 1.0227501 · Load_1 / 1 for group 1
    assert report.load.tolist() == pytest.approx([0.8331089, 1.1441410, 0.9994824, 0.0232677], abs=1e-6)
    assert report.importance.tolist() == [1, 1, 1, 0]
    assert report.tokens_per_expert.tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("kind", ["noisy", "balanced within noisy"])
def test_groups_nobody_chose_are_not_looked_at(kind: str) -> None:
    """Whatever their weights: NaN would spread."""
    layer = build(kind, num_groups=4, per_group=3, k=2, k_within=2)
    mixtures = layer.experts
    assert isinstance(mixtures, Mixtures)
    with torch.no_grad():
        layer.gate.get_parameter("w_gate")[:, :2] += 100  # positive tokens go to groups 0 and 1
        for weight in mixtures.parameters():
            weight.view(4, -1)[2:] = torch.nan
    y, report = layer(torch.rand(6, D_MODEL, dtype=torch.float64) + 0.1)
    assert report.tokens_per_expert[6:].tolist() == [0] * 6
    assert y.isfinite().all()
    (y.sum() + cv_squared(report.importance) + cv_squared(report.load) + report.threshold_loss).backward()
    for name, weight in mixtures.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.view(4, -1)[2:].eq(0).all(), name
        assert weight.grad.view(4, -1)[:2].ne(0).any(), name
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in layer.gate.parameters())


def test_every_token_gets_k_experts_of_k_groups() -> None:
    layer = build("noisy", num_groups=5, per_group=4, k=3, k_within=2)
    mixtures = layer.experts
    assert isinstance(mixtures, Mixtures)
    x = torch.randn(50, D_MODEL, dtype=torch.float64)
    routing = layer.gate(x)
    inner = mixtures.gates(x[routing.token], routing.tokens_per_expert)
    assert torch.bincount(inner.token).tolist() == [2] * 150  # of each pair of a token and a group
    assert torch.equal(inner.expert // 4, routing.expert[inner.token])  # all of them in that group
    assert torch.bincount(routing.token[inner.token]).tolist() == [6] * 50


def test_in_training_each_expert_of_a_balanced_hierarchy_gets_its_share_of_the_groups_tokens() -> None:
    # Primary: m = ⌈2·50/5⌉ = 20 tokens a group; within a group: m = ⌈3·20/7⌉ = ⌈8.57⌉ = 9
    layer = build("balanced", num_groups=5, per_group=7, k=2, k_within=3)
    _, report = layer(torch.randn(50, D_MODEL, dtype=torch.float64))
    assert report.tokens_per_expert.tolist() == report.load.tolist() == [9] * 35


def test_gates_and_experts_must_agree_on_their_number() -> None:
    with pytest.raises(ValueError, match=r"among 12 experts, but there are 11"):
        Mixtures(NoisyTopKGates(3, D_MODEL, 4, 2), FeedForwardExperts(11, D_MODEL, 8))


@pytest.mark.parametrize("gates", [NoisyTopKGates, StrictlyBalancedGates])
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 3, 4, 2), "num_groups=0"),
        ((2, 0, 4, 2), "d_model=0"),
        ((2, 3, 0, 2), "experts_per_group=0"),
        ((2, 3, 4, 0), "k=0"),
        ((2, 3, 4, 5), "k=5.*experts_per_group=4: lower k"),
    ],
)
def test_secondary_gates_name_the_bad_size(
    gates: type[nn.Module], sizes: tuple[int, int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gates(*sizes)
