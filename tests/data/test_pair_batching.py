"""Batches of pairs: each as often as its weight says, within budget, the same for every world size and resumption."""

from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from outrageous.data.packed_pairs import PackedPairs, packed_file
from outrageous.data.packing import write_packed
from outrageous.data.pair_batching import PairBatchSampler, make_pair_loader
from outrageous.data.pair_dataset import PairDataset
from outrageous.errors import UserError

PackPairs = Callable[..., PackedPairs]
LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=120)


@pytest.fixture(scope="session")
def pack_pairs(tmp_path_factory: pytest.TempPathFactory) -> PackPairs:
    """A function that packs pairs of sources and targets, `num_first` of them of the first of two directions."""

    def pack(pairs: list[tuple[list[int], list[int]]], num_first: int | None = None) -> PackedPairs:
        folder: Path = tmp_path_factory.mktemp("pairs")
        for side, sentences in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
            write_packed(packed_file(folder, "train", side), sentences)
        first = len(pairs) if num_first is None else num_first
        return PackedPairs(folder, "train", {"en-de": first, "en-fr": len(pairs) - first})

    return pack


@pytest.fixture(scope="session")
def of_lengths(pack_pairs: PackPairs) -> PackPairs:
    def pack(lengths: list[tuple[int, int]], num_first: int | None = None) -> PackedPairs:
        return pack_pairs([([9] * (s - 1) + [2], [8] * (t - 1) + [2]) for s, t in lengths], num_first)

    return pack


def epoch(sampler: PairBatchSampler, number: int = 0) -> list[list[int]]:
    sampler.set_epoch(number)
    return [indices.tolist() for indices in sampler]


def places(pairs: PackedPairs, batch: list[int]) -> int:
    """Words of a batch, padding included."""
    return len(batch) * int(pairs.source.lengths[batch].max() + pairs.target.lengths[batch].max())


def test_a_batch_by_hand(pack_pairs: PackPairs) -> None:
    # <pad> 0, <s> 1, </s> 2
    pairs = pack_pairs([([5, 6, 2], [7, 2]), ([9, 2], [9, 2]), ([5, 2], [6, 7, 8, 2])])
    batch = PairDataset(pairs)[np.array([0, 2])]
    assert batch.source.tolist() == [[5, 6, 2], [5, 2, 0]]
    assert batch.source_mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.inputs.tolist() == [[1, 7, 0, 0], [1, 6, 7, 8]]
    assert batch.targets.tolist() == [[7, 2, 0, 0], [6, 7, 8, 2]]
    assert batch.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.num_tokens == 6
    assert batch.source_words.tolist() == [0, 1, 2, 3, 4]
    assert batch.words.tolist() == [0, 1, 4, 5, 6, 7]
    assert batch.predicted.tolist() == [7, 2, 6, 7, 8, 2]
    assert {batch.source.dtype, batch.inputs.dtype, batch.targets.dtype, batch.words.dtype} == {torch.int32}
    there = batch.to("cpu")
    assert {there.source.dtype, there.inputs.dtype, there.targets.dtype, there.words.dtype} == {torch.int64}
    moved = batch.to("meta")
    assert moved.source.device.type == moved.mask.device.type == "meta"
    assert moved.num_tokens == 6


def test_packed_pairs_that_are_not_as_many_are_refused(pack_pairs: PackPairs, tmp_path: Path) -> None:
    write_packed(packed_file(tmp_path, "dev", "source"), [[5, 2], [6, 2]])
    write_packed(packed_file(tmp_path, "dev", "target"), [[5, 2]])
    with pytest.raises(UserError, match=r"dev: 2 sources and 1 targets, not 2 as meta\.json says"):
        PackedPairs(tmp_path, "dev", {"en-de": 2})


def test_batches_by_hand(of_lengths: PackPairs) -> None:
    # Longest targets first; within 20 places: one of 6 + 6, and another; four of 2 + 3; the rest
    pairs = of_lengths([(2, 3), (6, 6), (2, 3), (2, 3), (6, 6), (2, 3), (2, 3)])
    sampler = PairBatchSampler(pairs, 20, shuffle=False)
    assert epoch(sampler) == [[1], [4], [0, 2, 3, 5], [6]]
    assert sampler.padding_fraction() == 0


@given(lengths=LENGTHS, budget=st.integers(1, 300), shuffle=st.booleans())
def test_every_pair_comes_once_an_epoch_within_the_budget(
    lengths: list[tuple[int, int]], budget: int, shuffle: bool, of_lengths: PackPairs
) -> None:
    pairs = of_lengths(lengths)
    sampler = PairBatchSampler(pairs, budget, shuffle=shuffle, seed=1)
    for number in range(2):
        batches = epoch(sampler, number)
        assert len(batches) == len(sampler)
        assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
        assert all(len(batch) == 1 or places(pairs, batch) <= budget for batch in batches)
        words = sum(map(sum, lengths))
        assert sampler.padding_fraction() == pytest.approx(1 - words / sum(places(pairs, batch) for batch in batches))


@given(lengths=LENGTHS, first=st.floats(0.3, 2.5), second=st.floats(0.3, 2.5))
def test_pairs_come_as_often_as_their_direction_weighs(
    lengths: list[tuple[int, int]], first: float, second: float, of_lengths: PackPairs
) -> None:
    num_first = len(lengths) // 2
    pairs = of_lengths(lengths, num_first)
    sampler = PairBatchSampler(pairs, 100, weights={"en-de": first, "en-fr": second}, shuffle=True)
    for number in range(2):
        counts = Counter(chain.from_iterable(epoch(sampler, number)))
        assert len(list(sampler)) == len(sampler)
        for rows, weight in ((range(num_first), first), (range(num_first, len(lengths)), second)):
            expected = int(weight) * len(rows) + round(weight % 1 * len(rows))
            assert sum(counts[row] for row in rows) == (expected or min(1, len(rows)))
            assert all(int(weight) <= counts[row] <= int(weight) + 1 for row in rows)


def test_below_weight_one_every_pair_has_its_turn(of_lengths: PackPairs) -> None:
    pairs = of_lengths([(1 + i % 7, 1 + i % 5) for i in range(60)])
    sampler = PairBatchSampler(pairs, 50, weights={"en-de": 0.5}, shuffle=True)
    counts = Counter(chain.from_iterable(chain.from_iterable(epoch(sampler, number) for number in range(100))))
    assert sum(counts.values()) == 100 * 30
    assert all(30 <= counts[row] <= 70 for row in range(60))  # 50 on average, standard deviation 5


def test_the_order_is_that_of_seed_and_epoch(of_lengths: PackPairs) -> None:
    pairs = of_lengths([(1 + i % 12, 1 + i % 10) for i in range(600)])

    def order(seed: int, number: int) -> list[list[int]]:
        return epoch(PairBatchSampler(pairs, 64, shuffle=True, seed=seed), number)

    assert order(0, 0) == order(0, 0)
    assert len({str(order(seed, number)) for seed in (0, 1) for number in (0, 1)}) == 4
    assert sorted(map(sorted, order(0, 0))) != sorted(map(sorted, order(0, 1)))  # other company, not only other order


@given(lengths=LENGTHS, world_size=st.integers(2, 3))
def test_ranks_share_the_batches_of_one_process(
    lengths: list[tuple[int, int]], world_size: int, of_lengths: PackPairs
) -> None:
    pairs = of_lengths(lengths)

    def batches(rank: int, size: int) -> list[list[int]]:
        return epoch(PairBatchSampler(pairs, 400, shuffle=True, rank=rank, world_size=size), 1)

    whole = batches(0, 1)
    for rank in range(world_size):
        assert batches(rank, world_size) == [batch[rank::world_size] for batch in whole]


def test_a_rank_without_a_pair_has_a_batch_of_padding(of_lengths: PackPairs) -> None:
    pairs = of_lengths([(9, 9), (1, 1), (1, 1)])
    second = list(make_pair_loader(pairs, 10, shuffle=True, rank=1, world_size=2))
    (empty,) = [batch for batch in second if batch.num_tokens == 0]
    assert len(empty.mask) == len(empty.source_mask) == 1
    assert not empty.mask.any()
    assert not empty.source_mask.any()


def test_a_budget_of_no_words_is_refused(of_lengths: PackPairs) -> None:
    pairs = of_lengths([(9, 9), (1, 1), (1, 1)])
    with pytest.raises(UserError, match="words_per_batch=0 must be at least 1"):
        PairBatchSampler(pairs, 0, shuffle=True)


def test_start_batch_skips_the_start_of_one_pass_only(of_lengths: PackPairs) -> None:
    pairs = of_lengths([(1 + i % 12, 1 + i % 10) for i in range(200)], num_first=80)
    loader = make_pair_loader(pairs, 64, weights={"en-fr": 0.7}, shuffle=True, seed=5)
    assert isinstance(loader.sampler, PairBatchSampler)
    loader.sampler.set_epoch(2)
    before = torch.get_rng_state()
    whole = list(loader)
    assert torch.equal(torch.get_rng_state(), before)
    loader.sampler.start_batch = 4
    resumed = list(loader)
    assert len(loader) == len(whole) == len(resumed) + 4
    assert all(torch.equal(a.source, b.source) for a, b in zip(whole[4:], resumed, strict=True))
    assert len(list(loader)) == len(whole)
