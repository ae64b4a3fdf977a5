"""Batches: whole sentences once an epoch, within budget, the same for every seed, world size and resumption."""

from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from outrageous.data import batching
from outrageous.data.batching import Batch, BudgetBatchSampler, SentenceDataset, longest_first, make_loader
from outrageous.data.corpus import Corpus
from outrageous.data.packing import PackedSentences
from outrageous.errors import UserError

Pack = Callable[..., PackedSentences]
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=200).map(lambda lengths: np.array(lengths, np.int32))


def batches_of(sampler: BudgetBatchSampler, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return [indices.tolist() for indices in sampler]


def test_a_batch_by_hand(pack: Pack) -> None:
    # <s> is 99, </s> is 0; sentences "5 6 7" and "8"
    batch = SentenceDataset(pack([[5, 6, 7, 0], [1, 0], [8, 0]]))[np.array([0, 2])]
    assert batch.inputs.tolist() == [[99, 5, 6, 7], [99, 8, 0, 0]]
    assert batch.targets.tolist() == [[5, 6, 7, 0], [8, 0, 0, 0]]
    assert batch.mask.tolist() == [[True, True, True, True], [True, True, False, False]]
    assert batch.num_tokens == 6
    assert batch.words.tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.predicted.tolist() == [5, 6, 7, 0, 8, 0]
    # Half the bytes on the way, and int64 where look-ups and losses want it.
    assert {batch.inputs.dtype, batch.targets.dtype, batch.words.dtype} == {torch.int32}
    there = batch.to("cpu")
    assert {there.inputs.dtype, there.targets.dtype, there.words.dtype} == {torch.int64}
    assert there.mask.dtype == torch.bool


def test_a_batch_moves_whole(pack: Pack) -> None:
    batch = SentenceDataset(pack([[5, 0], [8, 0]]))[np.array([0, 1])].to("meta")
    assert {tensor.device.type for tensor in vars(batch).values()} == {"meta"}
    assert batch.num_tokens == 4


@pytest.mark.cuda
def test_a_batch_is_pinned_whole_and_moves_to_the_gpu(pack: Pack) -> None:
    sentences = pack([[5, 6, 0], [8, 0]])
    (batch,) = make_loader(sentences, 10, shuffle=False, for_gpu=True)
    assert all(tensor.is_pinned() for tensor in vars(batch).values())
    assert batch.to("cuda", non_blocking=True).targets.tolist() == [[5, 6, 0], [8, 0, 0]]


@pytest.mark.filterwarnings("ignore:.*pin_memory.*no accelerator:UserWarning")
def test_batches_for_a_gpu_are_made_ahead_and_are_the_same(pack: Pack) -> None:
    sentences = pack([[*range(1, 1 + i % 9), 0] for i in range(100)])
    plain, for_gpu = (make_loader(sentences, 40, shuffle=True, seed=5, for_gpu=on_gpu) for on_gpu in (False, True))
    assert (plain.num_workers, plain.pin_memory) == (0, False)  # on a CPU cores are for training
    assert for_gpu.num_workers >= 1
    assert for_gpu.pin_memory
    batches, ahead = [*plain, *plain], [*for_gpu, *for_gpu]  # in a second pass by the same processes
    assert for_gpu.persistent_workers
    assert len(batches) == len(ahead) > 10
    for batch, other in zip(batches, ahead, strict=True):
        assert all(map(torch.equal, vars(batch).values(), vars(other).values()))


def test_batches_by_hand() -> None:
    # The longest first: 5 | 4 3 | 3 2 2 | 1 within nine words, and within nine places (1.1 · 9, rounded down) each
    sampler = BudgetBatchSampler(np.array([3, 5, 2, 1, 4, 3, 2]), 9, shuffle=False)
    assert batches_of(sampler) == [[1], [4, 0], [5, 2, 6], [3]]
    assert sampler.padding_fraction() == pytest.approx(1 - 20 / (5 + 2 * 4 + 3 * 3 + 1))
    # Twenty words and twenty-two places are just within a budget of twenty; twenty and twenty-four are not.
    assert batches_of(BudgetBatchSampler(np.array([11, 9]), 20, shuffle=False)) == [[0, 1]]
    assert batches_of(BudgetBatchSampler(np.array([12, 8]), 20, shuffle=False)) == [[0], [1]]


def test_a_sentence_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    sampler = BudgetBatchSampler(np.array([2, 50, 2, 11, 10]), 10, shuffle=False)
    assert batches_of(sampler) == [[1], [3], [4], [0, 2]]


@given(lengths=LENGTHS, budget=st.integers(1, 100), seed=st.integers(0, 9), shuffle=st.booleans())
def test_every_sentence_comes_once_an_epoch_within_the_budget(
    lengths: np.ndarray, budget: int, seed: int, shuffle: bool
) -> None:
    sampler = BudgetBatchSampler(lengths, budget, shuffle=shuffle, seed=seed)
    for epoch in range(3):
        batches = batches_of(sampler, epoch)
        assert len(batches) == len(sampler)
        assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
        assert all(len(batch) == 1 or lengths[batch].sum() <= budget for batch in batches)
        assert all(len(batch) == 1 or lengths[batch].max() * len(batch) <= 1.1 * budget for batch in batches)
        padded = sum(len(batch) * lengths[batch].max() for batch in batches)
        assert sampler.padding_fraction() == pytest.approx(1 - lengths.sum() / padded)


@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_sorting_by_length_equals_its_slow_twin_in_slices_of_any_size(lengths: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(lengths)).astype(np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "SORTED_AT_ONCE", seed + 1)
        assert longest_first(lengths, order).tolist() == sorted(order.tolist(), key=lambda i: -lengths[i])


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_order_of_an_epoch_is_that_of_the_recorded_runs(shuffle: bool) -> None:
    """As it was first written, with arrays of eight times the size."""
    lengths = np.random.default_rng(3).integers(1, 40, 5000).astype(np.int32)
    sampler = BudgetBatchSampler(lengths, 512, shuffle=shuffle, seed=7)
    generator = np.random.default_rng((7, 2))
    shuffled = generator.permutation(len(lengths)) if shuffle else np.arange(len(lengths))
    order = np.arange(len(sampler))
    if shuffle:
        generator.shuffle(order)
    sentences = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    cuts = np.cumsum([0, *(len(batch) for batch in BudgetBatchSampler(lengths, 512, shuffle=False))])
    assert batches_of(sampler, 2) == [sentences[cuts[i] : cuts[i + 1]].tolist() for i in order]


def test_the_order_is_that_of_seed_and_epoch() -> None:
    lengths = np.arange(500) % 20 + 1

    def order(seed: int, epoch: int) -> list[list[int]]:
        return batches_of(BudgetBatchSampler(lengths, 64, shuffle=True, seed=seed), epoch)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert order(0, 1) != order(1, 0)  # the two are not merely added
    assert sorted(map(sorted, order(0, 0))) != sorted(map(sorted, order(0, 1)))  # other company, not only other order


def test_without_shuffle_all_epochs_are_alike() -> None:
    sampler = BudgetBatchSampler(np.arange(100) % 7 + 1, 30, shuffle=False, seed=3)
    assert batches_of(sampler, 0) == batches_of(sampler, 5)


@given(lengths=LENGTHS, world_size=st.integers(2, 4), shuffle=st.booleans())
def test_ranks_share_the_batches_of_one_process(lengths: np.ndarray, world_size: int, shuffle: bool) -> None:
    budget = int(lengths.max()) * world_size * 2

    def batches(rank: int, size: int) -> list[list[int]]:
        sampler = BudgetBatchSampler(lengths, budget, shuffle=shuffle, rank=rank, world_size=size)
        return batches_of(sampler, epoch=1)

    whole = batches(0, 1)
    for rank in range(world_size):
        assert batches(rank, world_size) == [batch[rank::world_size] for batch in whole]


def test_a_rank_without_a_sentence_has_a_batch_of_padding(pack: Pack) -> None:
    sentences = pack([[1] * 8 + [0], [1, 2, 0], [1, 2, 0]])
    first, second = (list(make_loader(sentences, 10, shuffle=True, rank=rank, world_size=2)) for rank in range(2))
    assert sorted(batch.num_tokens for batch in first) == [3, 9]
    assert sorted(batch.num_tokens for batch in second) == [0, 3]
    (empty,) = [batch for batch in second if batch.num_tokens == 0]
    assert len(empty.mask) == 1
    assert not empty.mask.any()


def test_a_budget_of_no_words_is_refused() -> None:
    with pytest.raises(UserError, match="words_per_batch=0 must be at least 1"):
        BudgetBatchSampler(np.array([9, 3, 3]), 0, shuffle=True)


def test_start_batch_skips_the_start_of_one_pass_only(pack: Pack) -> None:
    sentences = pack([[1] * (i % 9) + [0] for i in range(100)])
    loader = make_loader(sentences, 40, shuffle=True, seed=5)
    assert isinstance(loader.sampler, BudgetBatchSampler)
    loader.sampler.set_epoch(2)
    whole = list(loader)
    loader.sampler.start_batch = 4
    resumed = list(loader)
    assert len(loader) == len(whole) == len(resumed) + 4  # its length stays that of a whole epoch
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(whole[4:], resumed, strict=True))
    assert len(list(loader)) == len(whole)


def test_loading_draws_nothing_from_the_global_generator(pack: Pack) -> None:
    loader = make_loader(pack([[1, 0]] * 10), 4, shuffle=True)
    before = torch.get_rng_state()
    batches: list[Batch] = list(loader)
    assert len(batches) == 5
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("words_per_batch", [512, 2048, 8192])
def test_padding_of_the_pocket_corpus_is_small(words_per_batch: int, pocket: Corpus) -> None:
    sampler = BudgetBatchSampler(pocket.train.lengths, words_per_batch, shuffle=True)
    assert sampler.padding_fraction() < 0.005  # the bound asked for is 0.05


@pytest.mark.parametrize("part", ["dev", "test"])
def test_padding_of_the_pocket_corpus_is_small_in_evaluation(part: str, pocket: Corpus) -> None:
    assert BudgetBatchSampler(getattr(pocket, part).lengths, 2048, shuffle=False).padding_fraction() < 0.05


def test_an_epoch_of_the_pocket_corpus_predicts_every_token_once(pocket: Corpus) -> None:
    counts = np.zeros(len(pocket.vocabulary), np.int64)
    for batch in make_loader(pocket.train, 8192, shuffle=True):
        assert batch.num_tokens <= 8192
        counts += np.bincount(batch.targets[batch.mask].numpy(), minlength=len(counts))
    assert counts.tolist() == pocket.vocabulary.counts
