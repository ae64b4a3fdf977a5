"""Gates: values and loads worked by hand, the load as a probability, and what holds for every routing."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from outrageous.moe import NoisyTopKGate, Routing, SoftmaxGate, cv_squared

LN2 = math.log(2)


def gate_of_logits(k: int, num_experts: int = 3) -> NoisyTopKGate:
    """A gate in evaluation whose tokens are their own logits, with the standard deviation softplus(0) = ln 2."""
    gate = NoisyTopKGate(d_model=num_experts, num_experts=num_experts, k=k).double().eval()
    with torch.no_grad():
        gate.w_gate.copy_(torch.eye(num_experts))
    return gate


def random_gate(num_experts: int, k: int, d_model: int = 5) -> NoisyTopKGate:
    gate = NoisyTopKGate(d_model, num_experts, k).double()
    with torch.no_grad():
        gate.w_gate.normal_()
        gate.w_noise.normal_()
    return gate


def dense(routing: Routing, num_tokens: int) -> Tensor:
    """G(X) [T, N], with zeros where a token does not use an expert."""
    gates = routing.weight.new_zeros(num_tokens, routing.load.numel())
    return gates.index_put((routing.token, routing.expert), routing.weight)


def test_softmax_gate_by_hand() -> None:
    # e^0 : e^ln2 : e^ln5 = 1 : 2 : 5
    gate = SoftmaxGate(d_model=3, num_experts=3).double()
    with torch.no_grad():
        gate.w_gate.copy_(torch.eye(3))
    x = torch.tensor([[0, LN2, math.log(5)], [0, 0, 0]], dtype=torch.float64)
    routing = gate(x)
    expected = torch.tensor([[1 / 8, 2 / 8, 5 / 8], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    assert_close(dense(routing, 2), expected, rtol=1e-9, atol=1e-9)
    assert_close(routing.importance, expected.sum(dim=0), rtol=1e-9, atol=1e-9)
    assert routing.tokens_per_expert.tolist() == [2, 2, 2]
    assert routing.load.tolist() == [2, 2, 2]


def test_top_2_of_3_by_hand() -> None:
    # token 0 keeps experts 0 and 1 with 3 : 1; token 1 keeps 2 and 1 with 6 : 4. The softmax knows the kept ones only.
    x = torch.tensor([[math.log(3), 0, -0.1], [0, math.log(4), math.log(6)]], dtype=torch.float64)
    routing = gate_of_logits(k=2)(x)
    expected = torch.tensor([[0.75, 0.25, 0], [0, 0.4, 0.6]], dtype=torch.float64)
    assert_close(dense(routing, 2), expected, rtol=1e-9, atol=1e-9)
    assert routing.tokens_per_expert.tolist() == [1, 2, 1]
    # importance (0.75, 0.65, 0.6): mean 2/3, deviations (5, -1, -4)/60, variance 42/3/3600 = 14/3600,
    # CV² = 14/3600 · 9/4 = 0.00875
    assert routing.importance.tolist() == pytest.approx([0.75, 0.65, 0.6], abs=1e-9)
    assert cv_squared(routing.importance).item() == pytest.approx(0.00875, abs=1e-9)


def test_top_1_of_3_by_hand() -> None:
    x = torch.tensor([[0.3, 0.2, 0.1], [0.3, 0.4, 0.1]], dtype=torch.float64)
    routing = gate_of_logits(k=1)(x)
    assert routing.importance.tolist() == [1, 1, 0]  # the only kept expert weighs 1
    # mean 2/3, variance (1/9 + 1/9 + 4/9) / 3 = 2/9, CV² = 2/9 · 9/4 = 1/2
    assert cv_squared(routing.importance).item() == pytest.approx(0.5, abs=1e-9)


def test_load_by_hand() -> None:
    # Logits in units of the noise's standard deviation: token 0 (0, 1, 3), token 1 (2, 2, 0).
    x = LN2 * torch.tensor([[0, 1, 3], [2, 2, 0]], dtype=torch.float64)
    phi = {-3: 0.0013499, -2: 0.0227501, -1: 0.1586553, 0: 0.5, 1: 0.8413447, 2: 0.9772499, 3: 0.9986501}

    # k = 1, the largest of the others:   token 0: 3, 3, 1;  token 1: 2, 2, 2
    load = gate_of_logits(k=1)(x).load.tolist()
    assert load == pytest.approx([phi[-3] + phi[0], phi[-2] + phi[0], phi[2] + phi[-2]], abs=1e-6)
    # k = 2, the second of the others:    token 0: 1, 0, 0;  token 1: 0, 0, 2
    load = gate_of_logits(k=2)(x).load.tolist()
    assert load == pytest.approx([phi[-1] + phi[2], phi[1] + phi[2], phi[3] + phi[-2]], abs=1e-6)
    # k = 3: every expert is always chosen
    assert gate_of_logits(k=3)(x).load.tolist() == [2, 2, 2]


@pytest.mark.parametrize(("num_experts", "k"), [(4, 1), (5, 2), (5, 4)])
def test_load_is_the_probability_of_staying_when_only_ones_own_noise_is_drawn_again(num_experts: int, k: int) -> None:
    num_tokens, num_draws = 6, 20_000
    gate, x = random_gate(num_experts, k), torch.randn(num_tokens, 5, dtype=torch.float64)
    clean, std = x @ gate.w_gate, F.softplus(x @ gate.w_noise)

    torch.manual_seed(7)
    load = gate(x).load
    torch.manual_seed(7)
    noise = torch.randn_like(clean)  # what the gate drew

    for expert in range(num_experts):
        redrawn = noise.expand(num_draws, -1, -1).clone()
        redrawn[:, :, expert] = torch.randn(num_draws, num_tokens, dtype=torch.float64)
        kept = (clean + redrawn * std).topk(k, dim=2).indices == expert
        # standard error at most √(6 · 1/4 / 20,000) = 0.009
        assert kept.sum().item() / num_draws == pytest.approx(load[expert].item(), abs=0.04)


def test_the_load_starts_out_even() -> None:
    gate = NoisyTopKGate(d_model=5, num_experts=8, k=2)
    routing = gate(torch.randn(4000, 5))
    # 8,000 assignments among 8 experts; the standard deviation of a count is √(4000 · 1/4 · 3/4) = 27
    assert routing.tokens_per_expert.tolist() == pytest.approx([1000] * 8, abs=140)
    assert routing.load.tolist() == pytest.approx([1000] * 8, abs=140)


def test_noise_while_training_only() -> None:
    gate, x = random_gate(num_experts=6, k=2), torch.randn(20, 5, dtype=torch.float64)
    assert not torch.equal(gate(x).weight, gate(x).weight)
    gate.eval()
    assert torch.equal(gate(x).weight, gate(x).weight)
    chosen = (x @ gate.w_gate).topk(2, dim=1).indices
    assert dense(gate(x), 20).nonzero()[:, 1].tolist() == chosen.sort(dim=1).values.flatten().tolist()


def test_ties_in_evaluation_give_every_expert_half_a_chance() -> None:
    gate = NoisyTopKGate(d_model=5, num_experts=6, k=4).eval()  # all logits are zero
    routing = gate(torch.randn(10, 5))
    assert routing.weight.tolist() == [0.25] * 40
    assert routing.load.tolist() == [5] * 6  # each at its threshold: Φ(0) = 1/2 for each of ten tokens


@given(st.data(), st.integers(2, 6), st.integers(1, 4))
def test_the_load_is_the_same_whichever_of_tied_experts_are_chosen(
    data: st.DataObject, num_experts: int, num_tokens: int
) -> None:
    """Eq. 8-9 by their letter, for logits of which many are equal, in units of the noise's standard deviation."""
    k = data.draw(st.integers(1, num_experts - 1))
    row = st.lists(st.integers(-1, 1), min_size=num_experts, max_size=num_experts)
    units = [data.draw(row) for _ in range(num_tokens)]
    gate = gate_of_logits(k, num_experts)
    routing = gate(LN2 * torch.tensor(units, dtype=torch.float64))
    expected = [0.0] * num_experts
    for logits in units:
        for i in range(num_experts):
            kth_excluding = sorted(logits[:i] + logits[i + 1 :], reverse=True)[k - 1]
            expected[i] += (1 + math.erf((logits[i] - kth_excluding) / math.sqrt(2))) / 2
    assert routing.load.tolist() == pytest.approx(expected, abs=1e-9)
    assert torch.bincount(routing.token).tolist() == [k] * num_tokens


@given(st.data(), st.integers(0, 20), st.integers(1, 9), st.booleans(), st.sampled_from(["random", "zero", "extreme"]))
def test_what_holds_for_every_routing(
    data: st.DataObject, num_tokens: int, num_experts: int, training: bool, logits: str
) -> None:
    k = data.draw(st.integers(1, num_experts))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    gate = random_gate(num_experts, k).train(training)
    with torch.no_grad():
        for weight in gate.parameters():
            weight.mul_({"random": 1, "zero": 0, "extreme": 1e4}[logits])
    routing = gate(torch.randn(num_tokens, 5, dtype=torch.float64))

    assert routing.expert.tolist() == sorted(routing.expert.tolist())
    assert routing.tokens_per_expert.sum() == num_tokens * k
    assert torch.bincount(routing.expert, minlength=num_experts).equal(routing.tokens_per_expert)
    pairs = set(zip(routing.token.tolist(), routing.expert.tolist(), strict=True))
    assert len(pairs) == num_tokens * k  # distinct experts
    assert torch.bincount(routing.token, minlength=num_tokens).tolist() == [k] * num_tokens
    gates = dense(routing, num_tokens)
    assert_close(gates.sum(dim=1), torch.ones(num_tokens, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    assert_close(routing.importance, gates.sum(dim=0), rtol=1e-9, atol=1e-9)
    assert routing.load.isfinite().all()
    assert ((routing.load >= 0) & (routing.load <= num_tokens)).all()


@pytest.mark.parametrize(
    ("sizes", "message"), [((0, 4, 2), "d_model=0"), ((3, 0, 2), "num_experts=0"), ((3, 4, 0), "k=0")]
)
def test_sizes_must_be_positive(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoisyTopKGate(*sizes)


def test_softmax_gate_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="num_experts=0"):
        SoftmaxGate(3, 0)


def test_k_cannot_exceed_the_number_of_experts() -> None:
    with pytest.raises(ValueError, match=r"k=5.*num_experts=4.*lower k"):
        NoisyTopKGate(d_model=3, num_experts=4, k=5)
