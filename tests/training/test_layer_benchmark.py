"""The benchmark's contestants compute what they are said to, on one memory, and what does not fit is said."""

import os
import signal

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from outrageous.moe import MoE
from outrageous.training import layer_benchmark
from outrageous.training.contestants import (
    Contestant,
    LayerSize,
    Seconds,
    TrainedLayer,
    WithLosses,
    adam,
    flat,
    from_shared_memory,
    gradient_free,
    groups_and_k,
    hierarchical,
)
from outrageous.training.layer_benchmark import DOES_NOT_FIT, ONCE_ABOVE, measure_layer, measure_peaks
from outrageous.training.peak_memory import peak_memory
from outrageous.training.peers import PEERS, Peer

SIZE = LayerSize(num_experts=4, num_tokens=32, d_model=8, d_hidden=24, k=2)


def shared(size: LayerSize) -> Tensor:
    return torch.empty(2 * size.num_experts * size.d_model * size.d_hidden).uniform_(-0.3, 0.3)


def test_layers_of_one_size_share_their_weights() -> None:
    weights = shared(SIZE)
    first, second = (from_shared_memory(lambda: flat(SIZE), weights) for _ in range(2))
    addresses = [[parameter.data_ptr() for parameter in module.parameters()] for module in (first, second)]
    assert addresses[0] == addresses[1]
    last = weights.data_ptr() + weights.element_size() * len(weights)
    assert all(weights.data_ptr() <= address < last for address in addresses[0])
    assert isinstance(first, WithLosses)
    assert isinstance(first.layer, MoE)


def test_a_step_leaves_gradients_and_moves_the_weights() -> None:
    module = flat(SIZE)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    seconds = TrainedLayer(module, adam(module), SIZE).run()
    assert 0 < seconds.forward_backward < seconds.step
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert all(parameter.ne(old).any() for parameter, old in zip(module.parameters(), before, strict=True))


def test_without_weight_gradients_the_experts_move_all_the_same() -> None:
    module = flat(SIZE)
    weights = [weight for weight in module.parameters() if weight.dim() == 3]
    before = [weight.detach().clone() for weight in weights]
    TrainedLayer(module, gradient_free(module), SIZE).run()
    for weight, old in zip(weights, before, strict=True):
        assert weight.grad is None
        assert weight.ne(old).any()


@pytest.mark.parametrize(("num_experts", "num_groups"), [(4, 2), (16, 4), (32, 4), (256, 16), (1024, 32)])
def test_hierarchies_have_about_the_square_root_of_n_groups(num_experts: int, num_groups: int) -> None:
    assert groups_and_k(LayerSize(num_experts, 8, 8, 8, k=4)) == (num_groups, 2)


def test_a_hierarchy_runs() -> None:
    size = LayerSize(num_experts=16, num_tokens=32, d_model=8, d_hidden=8, k=4)
    y, losses = hierarchical(size)(torch.randn(32, 8))
    assert y.shape == (32, 8)
    assert len(losses) == 1


def peer_of(name: str) -> nn.Module:
    (peer,) = [peer for peer in PEERS if peer.name.startswith(name)]
    if not peer.is_installed():
        pytest.skip(f"{peer.package} is not installed; pip install 'outrageous[bench]'")
    return from_shared_memory(lambda: peer.module(SIZE), shared(SIZE))


def test_the_experts_of_transformers_are_our_network() -> None:
    peer = peer_of("transformers: NemotronHExperts")
    x = torch.randn(32, 8)
    y, _ = peer(x)
    parameters = dict(peer.named_parameters())
    up, down = parameters["experts.up_proj"], parameters["experts.down_proj"]
    probabilities = (x @ parameters["router.weight"].t()).softmax(dim=1)
    expected = torch.zeros_like(x)
    for token in range(32):
        best = probabilities[token].topk(2)
        for gate, expert in zip(best.values / best.values.sum(), best.indices.tolist(), strict=True):
            expected[token] += gate * (down[expert] @ (up[expert] @ x[token]).relu())
    assert_close(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["transformers: Mixtral", "mixture-of-experts: MoE"])
def test_other_peers_have_about_as_many_weights(name: str) -> None:
    peer = peer_of(name)
    ours = sum(weight.numel() for weight in flat(SIZE).parameters() if weight.dim() == 3)
    theirs = sum(weight.numel() for weight in peer.parameters() if weight.dim() == 3)
    assert theirs == ours
    assert peer(torch.randn(32, 8))[0].shape == (32, 8)


class TooLarge(Contestant):
    def run(self) -> Seconds:
        torch.empty(10**15)
        raise AssertionError("this memory should not exist")


def test_what_does_not_fit_is_said_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    builders = layer_benchmark._builders()
    builders = {"outrageous": builders["outrageous"], "too large": lambda size, weights: TooLarge()}
    monkeypatch.setattr(layer_benchmark, "_builders", lambda: builders)
    ours, other = measure_layer(SIZE, num_rounds=2)["contestants"]
    assert ours["forward_backward"] > 0
    assert ours["note"] is None
    assert (other["forward_backward"], other["note"]) == (None, DOES_NOT_FIT)


class Slow(Contestant):
    def __init__(self) -> None:
        self.turns = 0

    def run(self) -> Seconds:
        self.turns += 1
        return Seconds(4.0, ONCE_ABOVE + 1)


def test_what_takes_long_takes_part_in_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    monkeypatch.setattr(layer_benchmark, "_builders", lambda: {"slow": lambda size, weights: slow})
    (entry,) = measure_layer(SIZE, num_rounds=3)["contestants"]
    assert slow.turns == 2  # one that does not count, one that does
    assert entry["forward_backward"] == 4.0


def too_large(size: LayerSize) -> None:
    torch.empty(10**15)


def ended(size: LayerSize) -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as a system without memory left does


def test_peaks_of_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_benchmark, "_train_with_adam", too_large)
    monkeypatch.setattr(layer_benchmark, "_train_without_gradients", ended)
    assert list(measure_peaks(SIZE).values()) == [None, None]


def test_a_package_that_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Peer("missing: Layer", "a_package_that_nobody_has", "", flat)
    monkeypatch.setattr(layer_benchmark, "PEERS", [missing])
    assert "missing: Layer" not in layer_benchmark._builders()


def fill(num_bytes: int) -> None:
    torch.ones(num_bytes, dtype=torch.uint8)


def test_peak_memory_counts_what_was_touched() -> None:
    small, large = peak_memory(fill, 1), peak_memory(fill, 500_000_000)
    assert large - small == pytest.approx(500e6, rel=0.1)
