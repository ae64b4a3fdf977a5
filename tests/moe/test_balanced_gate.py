"""Strictly balanced gates: appendix F worked by hand, against a slow twin, and what holds for every routing."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from outrageous.moe import FeedForwardExperts, MoE, Routing, StrictlyBalancedGate, StrictlyBalancedGates, cv_squared


def random_gate(num_experts: int, k: int, d_model: int = 5, scale: float = 1.0) -> StrictlyBalancedGate:
    """Thresholds lie about the values of the gates."""
    gate = StrictlyBalancedGate(d_model, num_experts, k).double()
    with torch.no_grad():
        gate.w_gate.normal_().mul_(scale)
        gate.log_threshold.add_(torch.randn_like(gate.log_threshold))
    return gate


def dense(routing: Routing, num_tokens: int) -> Tensor:
    """G(X) [T, N], with zeros where a token does not use an expert."""
    gates = routing.weight.new_zeros(num_tokens, routing.load.numel())
    return gates.index_put((routing.token, routing.expert), routing.weight)


@pytest.fixture
def by_hand() -> tuple[StrictlyBalancedGate, Tensor]:
    """Three tokens, two experts, k = 1, and g(X) = (3/4, 1/4), (1/2, 1/2), (1/5, 4/5); T = (0.45, 0.6)."""
    gate = StrictlyBalancedGate(d_model=3, num_experts=2, k=1).double()
    with torch.no_grad():
        gate.w_gate.copy_(torch.tensor([[math.log(3), 0], [0, 0], [0, math.log(4)]]))
        gate.log_threshold.copy_(torch.tensor([0.45, 0.6], dtype=torch.float64).log())
    return gate, torch.eye(3, dtype=torch.float64)


def test_training_by_hand(by_hand: tuple[StrictlyBalancedGate, Tensor]) -> None:
    # m = ⌈1·3/2⌉ = 2 (Eq. 18): expert 0 keeps tokens 0 and 1, expert 1 tokens 1 and 2.
    # Eq. 16: token 0 has expert 0 alone, token 1 both, equally, token 2 expert 1 alone
    gate, x = by_hand
    routing = gate(x)
    expected = torch.tensor([[1, 0], [0.5, 0.5], [0, 1]], dtype=torch.float64)
    assert_close(dense(routing, 3), expected, rtol=1e-9, atol=1e-9)
    assert routing.importance.tolist() == pytest.approx([1.5, 1.5])
    assert routing.tokens_per_expert.tolist() == routing.load.tolist() == [2, 2]
    assert not routing.load.requires_grad


def test_threshold_loss_by_hand(by_hand: tuple[StrictlyBalancedGate, Tensor]) -> None:
    # Eq. 19: expert 0 is above 0.45 for tokens 0 and 1, expert 1 above 0.6 for token 2 alone. The masks differ at token
    # 1 and expert 1: (0 - 1)·(0.5 - 0.6) = 0.1, Eq. 20; a mean over 3 tokens. By T_1: -(0 - 1) / 3 = 1/3, and by its
    # logarithm 0.6 / 3 = 0.2: descent lowers the threshold, towards letting token 1 pass.
    gate, x = by_hand
    x.requires_grad_()
    loss = gate(x).threshold_loss
    loss.backward()
    assert loss.item() == pytest.approx(0.1 / 3)
    assert gate.log_threshold.grad is not None
    assert gate.log_threshold.grad.tolist() == pytest.approx([0, 0.2])
    assert gate.w_gate.grad is None  # it moves the thresholds alone
    assert x.grad is None


def test_evaluation_by_hand(by_hand: tuple[StrictlyBalancedGate, Tensor]) -> None:
    gate, x = by_hand
    routing = gate.eval()(x)
    assert dense(routing, 3).tolist() == [[1, 0], [1, 0], [0, 1]]
    assert routing.load.tolist() == [2, 1]
    assert routing.threshold_loss.item() == 0


def twin(gate: StrictlyBalancedGate, x: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 16-20 token by token and expert by expert: G(X) [T, N], and L_batchwise over T."""
    num_tokens, num_experts = len(x), gate.num_experts
    g = [[torch.exp(token @ gate.w_gate[:, i]) for i in range(num_experts)] for token in x]
    g = [[power / sum(powers) for power in powers] for powers in g]
    threshold = gate.log_threshold.exp()
    m = math.ceil(gate.k * num_tokens / num_experts)
    gates, loss = [], torch.zeros((), dtype=torch.float64)
    for t in range(num_tokens):
        better = [sum(bool(g[other][i] > g[t][i]) for other in range(num_tokens)) for i in range(num_experts)]
        batchwise = [float(count < m) for count in better]
        above = [float(g[t][i] > threshold[i]) for i in range(num_experts)]
        mask = batchwise if gate.training else above
        total = sum(g[t][i] * mask[i] for i in range(num_experts))
        gates += [g[t][i] * mask[i] / total if mask[i] else torch.zeros_like(loss) for i in range(num_experts)]
        for i in range(num_experts):
            loss = loss + (above[i] - batchwise[i]) * (g[t][i].detach() - threshold[i]) / num_tokens
    return torch.stack(gates).view(num_tokens, num_experts), loss if gate.training else torch.zeros_like(loss)


@given(st.data(), st.integers(1, 7), st.integers(1, 6), st.booleans())
def test_the_gate_equals_its_twin(data: st.DataObject, num_tokens: int, num_experts: int, training: bool) -> None:
    k = data.draw(st.integers(1, num_experts))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    gate = random_gate(num_experts, k).train(training)
    x = torch.randn(num_tokens, 5, dtype=torch.float64, requires_grad=True)
    routing = gate(x)
    gates, loss = twin(gate, x)
    assert_close(dense(routing, num_tokens), gates, rtol=1e-9, atol=1e-9)
    assert_close(routing.importance, gates.sum(dim=0), rtol=1e-9, atol=1e-9)
    assert_close(routing.threshold_loss, loss, rtol=1e-9, atol=1e-9)

    direction = torch.randn_like(gates)
    ours = (dense(routing, num_tokens) * direction).sum() + cv_squared(routing.importance) + routing.threshold_loss
    expected = (gates * direction).sum() + cv_squared(gates.sum(dim=0)) + loss
    if not expected.requires_grad:  # in evaluation no gate may be above its threshold
        return
    inputs = [x, *gate.parameters()]
    grads, twin_grads = (
        torch.autograd.grad(each, inputs, allow_unused=True, materialize_grads=True) for each in (ours, expected)
    )
    assert_close(grads, twin_grads, rtol=1e-9, atol=1e-9)


LOGITS = {"random": 1.0, "equal": 0.0, "extreme": 1e4}


@given(st.data(), st.integers(0, 20), st.integers(1, 9), st.sampled_from(list(LOGITS)), st.booleans())
def test_in_training_every_expert_gets_exactly_its_share(
    data: st.DataObject, num_tokens: int, num_experts: int, logits: str, repeated: bool
) -> None:
    """Also where N does not divide k·T, and where tokens are alike."""
    k = data.draw(st.integers(1, num_experts))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    gate = random_gate(num_experts, k, scale=LOGITS[logits])
    x = torch.randn(num_tokens, 5, dtype=torch.float64)
    if repeated and num_tokens:
        x = x[torch.randint(max(1, num_tokens // 3), (num_tokens,))]
    routing = gate(x)
    assert routing.tokens_per_expert.tolist() == [math.ceil(k * num_tokens / num_experts)] * num_experts
    assert routing.tokens_per_expert.tolist() == routing.load.tolist()
    check_weights(routing, num_tokens)


@given(st.integers(0, 20), st.integers(1, 9), st.sampled_from(list(LOGITS)), st.integers(0, 1000))
def test_in_evaluation_every_expert_gets_the_tokens_above_its_threshold(
    num_tokens: int, num_experts: int, logits: str, seed: int
) -> None:
    torch.manual_seed(seed)
    gate = random_gate(num_experts, 1, scale=LOGITS[logits]).eval()
    x = torch.randn(num_tokens, 5, dtype=torch.float64)
    routing = gate(x)
    above = (x @ gate.w_gate).softmax(dim=1) > gate.log_threshold.exp()
    assert routing.tokens_per_expert.tolist() == above.sum(dim=0).tolist()
    check_weights(routing, num_tokens)


def check_weights(routing: Routing, num_tokens: int) -> None:
    """They sum to one for every token that has an expert at all."""
    has_any = torch.bincount(routing.token, minlength=num_tokens) > 0
    assert_close(dense(routing, num_tokens).sum(dim=1), has_any.double(), rtol=1e-9, atol=1e-9)
    pairs = list(zip(routing.expert.tolist(), routing.token.tolist(), strict=True))
    assert pairs == sorted(set(pairs))


@given(st.data(), st.integers(0, 20), st.integers(1, 5), st.integers(1, 5), st.sampled_from(list(LOGITS)))
def test_in_training_every_expert_gets_its_share_of_its_group(
    data: st.DataObject, num_rows: int, num_groups: int, per_group: int, logits: str
) -> None:
    k = data.draw(st.integers(1, per_group))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    gates = StrictlyBalancedGates(num_groups, 4, per_group, k)
    torch.nn.init.normal_(gates.w_gate, std=LOGITS[logits])
    tokens_per_group = torch.bincount(torch.randint(num_groups, (num_rows,)), minlength=num_groups)
    routing = gates(torch.randn(num_rows, 4), tokens_per_group)
    share = [math.ceil(k * count / per_group) for count in tokens_per_group.tolist() for _ in range(per_group)]
    assert routing.tokens_per_expert.tolist() == routing.load.tolist() == share
    group = torch.arange(num_groups).repeat_interleave(tokens_per_group)
    assert torch.equal(routing.expert // per_group, group[routing.token])  # no row leaves its group


def test_each_group_does_what_a_gate_alone_would_do() -> None:
    gates = StrictlyBalancedGates(3, 5, 4, k=2).double()
    torch.nn.init.normal_(gates.w_gate)
    counts = [6, 0, 5]
    rows = torch.randn(11, 5, dtype=torch.float64)
    together = dense(gates(rows, torch.tensor(counts)), 11)
    for i, of_group in enumerate(rows.split(counts)):
        alone = StrictlyBalancedGate(5, 4, k=2).double()
        alone.load_state_dict({name: weight[i] for name, weight in gates.state_dict().items()})
        its = together.split(counts)[i]
        assert_close(its[:, 4 * i : 4 * i + 4], dense(alone(of_group), counts[i]), rtol=1e-9, atol=1e-9)
        assert its.count_nonzero() == its[:, 4 * i : 4 * i + 4].count_nonzero()


def test_a_token_without_expert_yields_zero_with_finite_gradients() -> None:
    # m = 1·3/3 = 1; g(X) = (0.5, 0.1, 0.4), (0.1, 0.8, 0.1), (0.3, 0.4, 0.3): token 0 is the best of experts 0 and 2,
    # token 1 of expert 1, and token 2 of none
    layer = MoE(StrictlyBalancedGate(3, 3, k=1), FeedForwardExperts(3, 3, 8))
    with torch.no_grad():
        g = torch.tensor([[0.5, 0.1, 0.4], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3]])
        layer.gate.get_parameter("w_gate").copy_(g.log())
    x = torch.eye(3, requires_grad=True)
    y, report = layer(x)
    (y.square().sum() + cv_squared(report.importance) + report.threshold_loss).backward()
    assert report.tokens_per_expert.tolist() == [1, 1, 1]
    assert y.ne(0).any(dim=1).tolist() == [True, True, False]
    assert x.grad is not None
    assert x.grad.ne(0).any(dim=1).tolist() == [True, True, False]
    assert x.grad.isfinite().all()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in layer.parameters())


def test_the_threshold_loss_is_smallest_where_both_masks_agree() -> None:
    gate = random_gate(num_experts=4, k=1, d_model=3)
    x = torch.randn(40, 3, dtype=torch.float64)  # m = 10
    falling = (x @ gate.w_gate).softmax(dim=1).sort(dim=0, descending=True).values
    with torch.no_grad():
        gate.log_threshold.copy_(((falling[9] + falling[10]) / 2).log())  # between the 10th and the 11th
    assert gate(x).threshold_loss.item() == 0
    agree = gate.log_threshold.detach().clone()
    losses = []
    for step in (0.2, 0.5, 1.0):  # and the larger, the further away, on either side, for each expert alone
        moved = [agree + sign * step * torch.eye(4, dtype=torch.float64)[i] for i in range(4) for sign in (-1, 1)]
        losses.append([loss_at(gate, x, log_threshold) for log_threshold in moved])
    for near, far in zip([[0.0] * 8, *losses], losses, strict=False):
        assert all(a < b for a, b in zip(near, far, strict=True))


def loss_at(gate: StrictlyBalancedGate, x: Tensor, log_threshold: Tensor) -> float:
    with torch.no_grad():
        gate.log_threshold.copy_(log_threshold)
        loss: float = gate(x).threshold_loss.item()
    return loss


def test_training_the_thresholds_brings_the_loads_of_evaluation_to_their_share() -> None:
    gate = random_gate(num_experts=8, k=2, d_model=6).float()
    x = torch.randn(400, 6)  # m = 100
    before = gate.eval()(x).tokens_per_expert
    gate.train()
    adam = torch.optim.Adam([gate.log_threshold], lr=0.05)
    for _ in range(300):
        adam.zero_grad()
        gate(x).threshold_loss.backward()
        adam.step()
    after = gate.eval()(x).tokens_per_expert
    assert (before - 100).abs().max() > 30
    assert (after - 100).abs().max() <= 3


def test_an_untrained_gate_in_evaluation_gives_no_token_an_expert() -> None:
    """All gates are 1/N, which is where the thresholds start too, and none is above its threshold."""
    gate = StrictlyBalancedGate(4, 8, k=2).eval()
    assert gate(torch.randn(10, 4)).tokens_per_expert.tolist() == [0] * 8


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((0, 4, 2), "d_model=0"), ((3, 0, 2), "num_experts=0"), ((3, 4, 0), "k=0"), ((3, 4, 5), "k=5.*lower k")],
)
def test_sizes_are_checked(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StrictlyBalancedGate(*sizes)
