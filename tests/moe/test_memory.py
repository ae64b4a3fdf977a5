"""Memory kept from step to step: used again when free, and never where anybody could tell."""

import copy
import mmap
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from outrageous.moe import FeedForwardExperts, MoE, NoisyTopKGate
from outrageous.moe.memory import KeptMemory


def test_memory_is_lent_again_when_nobody_refers_to_it() -> None:
    memory, like = KeptMemory(), torch.empty(0)
    first = memory.empty("weights", like, 4, 3)
    address = first.data_ptr()
    del first
    assert memory.empty("weights", like, 4, 3).data_ptr() == address
    assert memory.empty("weights", like, 2, 3).data_ptr() == address  # the block is large enough
    assert memory.empty("weights", like.to(torch.bfloat16), 4, 6).data_ptr() == address


@pytest.mark.parametrize("hold", [lambda x: x, lambda x: x[1:], lambda x: x.t(), lambda x: x.detach(), Tensor.numpy])
def test_memory_that_anybody_refers_to_is_not_lent(hold: Callable[[Tensor], object]) -> None:
    memory, like = KeptMemory(), torch.empty(0)
    lent = memory.empty("weights", like, 4, 3).fill_(1)
    held = hold(lent)
    del lent
    memory.empty("weights", like, 4, 3).fill_(2)
    assert (torch.as_tensor(held) == 1).all()


def test_each_purpose_has_memory_of_its_own_which_grows() -> None:
    memory, like = KeptMemory(), torch.empty(0, dtype=torch.float64)
    a, b = memory.empty("a", like, 2).fill_(1), memory.empty("b", like, 2).fill_(2)
    assert a.tolist() == [1, 1]
    assert b.tolist() == [2, 2]
    assert a.dtype == torch.float64
    del a
    assert memory.empty("a", like, 1000, 7).shape == (1000, 7)
    assert memory.empty("a", like, 0, 7).shape == (0, 7)


def test_no_two_threads_are_lent_the_same_memory() -> None:
    memory, like, barrier = KeptMemory(), torch.empty(0), threading.Barrier(4)

    def borrow(_: int) -> Tensor:
        barrier.wait()
        return memory.empty("weights", like, 100)

    for _ in range(20):
        with ThreadPoolExecutor(4) as pool:
            lent = list(pool.map(borrow, range(4)))
        assert len({tensor.data_ptr() for tensor in lent}) == 4
        del lent


def test_memory_is_lent_where_the_system_knows_no_private_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MAP_PRIVATE", raising=False)  # as on Windows
    memory, like = KeptMemory(), torch.empty(0)
    address = memory.empty("weights", like, 4).fill_(1).data_ptr()
    assert memory.empty("weights", like, 4).data_ptr() == address


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_share_no_memory(duplicate: Callable[[KeptMemory], KeptMemory]) -> None:
    memory, like = KeptMemory(), torch.empty(0)
    address = memory.empty("weights", like, 4).data_ptr()
    other = duplicate(memory)
    assert other.empty("weights", like, 4).data_ptr() != address


def gradients(layer: nn.Module) -> list[Tensor]:
    """Of the experts' weights."""
    return [weight.grad for weight in layer.parameters() if weight.dim() == 3 and weight.grad is not None]


def build(keep_memory: bool) -> MoE:
    torch.manual_seed(0)
    return MoE(NoisyTopKGate(6, 4, 2), FeedForwardExperts(4, 6, 8, keep_memory=keep_memory))


def simple(layer: nn.Module, x: Tensor, step: int) -> list[Tensor]:
    layer(x)[0].square().sum().backward()
    return []


def accumulate(layer: nn.Module, x: Tensor, step: int) -> list[Tensor]:
    for part in x.split(5):
        layer(part)[0].square().sum().backward()
    return []


def twice_through_one_graph(layer: nn.Module, x: Tensor, step: int) -> list[Tensor]:
    loss = layer(x)[0].square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    return []


def twice_in_one_graph(layer: nn.Module, x: Tensor, step: int) -> list[Tensor]:
    layer(layer(x)[0])[0].square().sum().backward()
    return []


def two_graphs_at_once(layer: nn.Module, x: Tensor, step: int) -> list[Tensor]:
    first, second = layer(x)[0], layer(2 * x)[0]
    outputs = [first.detach().clone(), second.detach().clone()]
    first.square().sum().backward()
    second.square().sum().backward()
    return [*outputs, first.detach(), second.detach()]


def gradients_held(layer: nn.Module, x: Tensor, step: int) -> list[Tensor]:
    simple(layer, x, step)
    return [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]


def gradients_in_part_dropped(layer: nn.Module, x: Tensor, step: int) -> list[Tensor]:
    simple(layer, x, step)
    first = next(parameter for parameter in layer.parameters() if parameter.grad is not None)
    first.grad = None
    simple(layer, x, step)
    return []


def a_look_without_gradients(layer: nn.Module, x: Tensor, step: int) -> list[Tensor]:
    out = layer(x)[0]
    with torch.no_grad():
        other = layer(3 * x)[0]
    out.square().sum().backward()
    return [out.detach(), other]


SCENARIOS = [
    simple,
    accumulate,
    twice_through_one_graph,
    twice_in_one_graph,
    two_graphs_at_once,
    gradients_held,
    gradients_in_part_dropped,
    a_look_without_gradients,
]


def train(
    layer: nn.Module, scenario: Callable[[nn.Module, Tensor, int], list[Tensor]], set_to_none: bool
) -> list[Tensor]:
    """Everything that a user could see of three steps."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    seen: list[Tensor] = []
    for step in range(3):
        optimizer.zero_grad(set_to_none=set_to_none)
        seen += scenario(layer, torch.randn(10 + step, 6), step)
        seen += [parameter.grad.clone() for parameter in layer.parameters() if parameter.grad is not None]
        optimizer.step()
    return seen + [parameter.detach().clone() for parameter in layer.parameters()]


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_training_with_kept_memory_is_training(
    scenario: Callable[[nn.Module, Tensor, int], list[Tensor]], set_to_none: bool
) -> None:
    plain, kept = (train(build(keep_memory), scenario, set_to_none) for keep_memory in (False, True))
    assert len(plain) == len(kept) > 0
    assert all(map(torch.equal, plain, kept))


def test_gradients_stand_where_those_of_the_last_step_stood() -> None:
    layer = build(keep_memory=True)
    addresses = []
    for _ in range(3):
        layer.zero_grad()
        layer(torch.randn(10, 6))[0].sum().backward()
        addresses.append([grad.data_ptr() for grad in gradients(layer)])
    assert len(addresses[0]) == 2
    assert addresses[0] == addresses[1] == addresses[2]


def test_a_copied_layer_has_gradients_of_its_own() -> None:
    layer = build(keep_memory=True)
    simple(layer, torch.randn(10, 6), 0)
    before = [grad.clone() for grad in gradients(layer)]
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other.zero_grad()
        simple(other, torch.randn(7, 6), 0)
    assert len(before) == 2
    assert all(map(torch.equal, gradients(layer), before))
    assert layer.state_dict().keys() == build(keep_memory=False).state_dict().keys()


def in_ddp(folder: Path, bucket_view: bool) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    layer = DistributedDataParallel(build(keep_memory=True), gradient_as_bucket_view=bucket_view)
    torch.save(train(layer, simple, set_to_none=True), folder / "seen.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("bucket_view", [False, True])
def test_data_parallel_training_with_kept_memory_is_training(tmp_path: Path, bucket_view: bool) -> None:
    # Spawned: a forked child that computes with several threads may wait for ever for those of its parent.
    child = multiprocessing.get_context("spawn").Process(target=in_ddp, args=(tmp_path, bucket_view), daemon=True)
    child.start()
    child.join()  # the test's own time limit ends a child that hangs
    assert child.exitcode == 0
    expected = train(build(keep_memory=False), simple, set_to_none=True)
    torch.testing.assert_close(torch.load(tmp_path / "seen.pt"), expected)
