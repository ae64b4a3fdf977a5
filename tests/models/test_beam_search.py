"""Beam search against exhaustive search, and against a slow twin that encodes everything again for every word."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from outrageous.config import GateConfig, GateKind, MoEConfig, TranslationModelConfig
from outrageous.models.beam_search import BeamSettings, Hypothesis, beam_search, coverage_penalty, length_penalty
from outrageous.models.gnmt import TranslationModel

BOS, EOS = 0, 1
VOCABULARY = 4
MOE = MoEConfig(GateConfig(GateKind.noisy_top_k, k=2), num_experts=3, d_hidden=[4])


def build(seed: int, sharpness: float = 4.0) -> TranslationModel:
    """sharpness: how far apart the words' probabilities lie."""
    torch.manual_seed(seed)
    model = TranslationModel(TranslationModelConfig(3, 4, dropout=0.0, moe=MOE), VOCABULARY).double().eval()
    for weight in model.parameters():
        nn.init.normal_(weight)
    nn.init.normal_(model.softmax.weight, std=sharpness)
    return model


def sources(*sentences: list[int]) -> tuple[Tensor, Tensor]:
    source = torch.nn.utils.rnn.pad_sequence([torch.tensor(sentence) for sentence in sentences], batch_first=True)
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    return source, torch.arange(source.shape[1]) < lengths.unsqueeze(1)


def search(model: TranslationModel, *sentences: list[int], settings: BeamSettings) -> list[list[Hypothesis]]:
    return beam_search(model, *sources(*sentences), BOS, EOS, settings)


def weigh(model: TranslationModel, sentence: list[int], words: list[int]) -> tuple[Tensor, Tensor]:
    """Log-probabilities [|Y| + 1, V] after the words, and attention [|Y| + 1, L], by the parallel pass and step."""
    source, mask = sources(sentence)
    inputs = torch.tensor([[BOS, *words]])
    hidden, _ = model(source, mask, inputs, torch.ones_like(inputs, dtype=torch.bool))
    state, memory = model.start(source, mask)
    attention = []
    for word in inputs[0]:
        _, state, weights = model.step(word.view(1), state, memory)
        attention.append(weights[0])
    return model.softmax.log_probabilities(hidden), torch.stack(attention)


def score(model: TranslationModel, sentence: list[int], words: list[int], settings: BeamSettings) -> float:
    """Eq. 14 of Wu et al., words with their end mark."""
    log_probabilities, attention = weigh(model, sentence, words[:-1])
    total = sum(log_probabilities[position, word].item() for position, word in enumerate(words))
    coverage = sum(math.log(min(attention[:, i].sum().item(), 1.0)) for i in range(len(sentence)))
    return total / ((5 + len(words)) / 6) ** settings.alpha + settings.beta * coverage


def exhaustive(model: TranslationModel, sentence: list[int], settings: BeamSettings) -> list[tuple[list[int], float]]:
    """Every translation within the limit, best first."""
    limit = int(settings.max_ratio * len(sentence))
    others = [word for word in range(VOCABULARY) if word != EOS]
    found = []
    for length in range(1, limit + 1):
        found += [[*words, EOS] for words in itertools.product(others, repeat=length - 1)]
        if length == limit:
            found += [list(words) for words in itertools.product(others, repeat=length)]
    scored = [(words, score(model, sentence, words, settings)) for words in found]
    return sorted(scored, key=lambda pair: -pair[1])


def bare(words: list[int]) -> list[int]:
    return [word for word in words if word != EOS]


@pytest.mark.parametrize(("seed", "alpha", "beta"), [(0, 0.0, 0.0), (1, 0.2, 0.2), (2, 1.0, 0.5)])
@torch.no_grad()
def test_a_beam_wide_enough_is_exhaustive_search(seed: int, alpha: float, beta: float) -> None:
    model = build(seed, sharpness=1.0)
    settings = BeamSettings(num_beams=200, alpha=alpha, beta=beta, margin=math.inf, max_ratio=1.5)
    sentences = [[2, 1], [1], [3, 1]]  # 1 + 3 + 9 + 27 translations of two words, 1 + 3 of one
    for sentence, found in zip(sentences, search(model, *sentences, settings=settings), strict=True):
        expected = exhaustive(model, sentence, settings)
        assert len(found) == len(expected)
        for hypothesis, (words, value) in zip(found, expected, strict=True):
            assert hypothesis.tokens == bare(words)
            assert hypothesis.score == pytest.approx(value, rel=1e-9)


def twin(model: TranslationModel, sentence: list[int], settings: BeamSettings) -> list[tuple[list[int], float]]:
    """One sentence, one hypothesis after the other, each encoded again from the start for every word."""
    limit, live = int(settings.max_ratio * len(sentence)), [(0.0, list[int]())]
    finished: list[tuple[list[int], float]] = []
    while live:
        candidates = []
        for total, words in live:
            after = weigh(model, sentence, words)[0][-1]
            near = (after >= after.max() - settings.margin).nonzero().flatten().tolist()
            candidates += [(total + after[word].item(), [*words, word]) for word in near]
        candidates.sort(key=lambda candidate: -candidate[0])
        live = []
        for total, words in candidates[: settings.num_beams - len(finished)]:
            if words[-1] == EOS or len(words) == limit:
                finished.append((words, score(model, sentence, words, settings)))
            else:
                live.append((total, words))
        best = max((value for _, value in finished), default=-math.inf)
        penalty = ((5 + limit) / 6) ** settings.alpha
        live = [(total, words) for total, words in live if total / penalty >= best - settings.margin]
    finished.sort(key=lambda pair: -pair[1])
    return [(words, value) for words, value in finished if value >= finished[0][1] - settings.margin]


@given(
    seed=st.integers(0, 1000),
    lengths=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    num_beams=st.integers(1, 5),
    margin=st.sampled_from([0.5, 3.0, math.inf]),
    sharpness=st.sampled_from([0.5, 2.0]),
)
@torch.no_grad()
def test_a_batch_equals_its_twin_sentence_by_sentence(
    seed: int, lengths: list[int], num_beams: int, margin: float, sharpness: float
) -> None:
    model = build(seed, sharpness)
    settings = BeamSettings(num_beams, alpha=0.6, beta=0.3, margin=margin)
    sentences = [[2 + (seed + i) % 2 for i in range(length - 1)] + [EOS] for length in lengths]
    for sentence, found in zip(sentences, search(model, *sentences, settings=settings), strict=True):
        expected = twin(model, sentence, settings)
        assert [hypothesis.tokens for hypothesis in found] == [bare(words) for words, _ in expected]
        assert [hypothesis.score for hypothesis in found] == pytest.approx([value for _, value in expected], rel=1e-9)


@torch.no_grad()
def test_a_beam_of_one_is_greedy() -> None:
    model = build(5, sharpness=1.0)
    sentences = [[2, 3, 3, 2, 1], [3, 1], [2, 2, 3, 1]]
    results = search(model, *sentences, settings=BeamSettings(num_beams=1))
    for sentence, (hypothesis,) in zip(sentences, results, strict=True):
        words: list[int] = []
        while len(words) < 2 * len(sentence) and EOS not in words:
            words.append(int(weigh(model, sentence, words)[0][-1].argmax()))
        assert hypothesis.tokens == bare(words)
    assert len({tuple(found[0].tokens) for found in results}) > 1  # not the same for all


@torch.no_grad()
def test_batch_and_padding_change_no_translation() -> None:
    model = build(1, sharpness=1.0)
    settings = BeamSettings(num_beams=4)
    sentences = [[2, 3, 1], [3, 3, 2, 2, 3, 1], [1], [2, 1]]
    together = search(model, *sentences, settings=settings)
    for sentence, found in zip(sentences, together, strict=True):
        (alone,) = search(model, sentence, settings=settings)
        assert [one.tokens for one in alone] == [one.tokens for one in found]
        assert [one.score for one in alone] == pytest.approx([one.score for one in found], rel=1e-9)
    source, mask = sources(*sentences)
    source, mask = torch.nn.functional.pad(source, (0, 3), value=2), torch.nn.functional.pad(mask, (0, 3))
    padded = beam_search(model, source, mask, BOS, EOS, settings)
    assert [[one.tokens for one in found] for found in padded] == [[one.tokens for one in found] for found in together]


@torch.no_grad()
def test_attention_is_that_of_each_word() -> None:
    model = build(3, sharpness=1.0)
    sentences = [[2, 3, 3, 1], [3, 1]]
    settings = BeamSettings(num_beams=3, margin=math.inf)
    for sentence, found in zip(
        sentences, beam_search(model, *sources(*sentences), BOS, EOS, settings, keep_attention=True), strict=True
    ):
        for hypothesis in found:
            assert hypothesis.attention is not None
            ended = len(hypothesis.tokens) < 2 * len(sentence)
            assert hypothesis.attention.shape == (len(hypothesis.tokens) + ended, len(sentence))
            _, expected = weigh(model, sentence, hypothesis.tokens)
            assert_close(hypothesis.attention, expected[: len(hypothesis.attention)], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_what_is_finished_costs_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that ends every translation at its second word: one row for each sentence, then K, then none."""
    model = build(0)
    rows: list[int] = []
    step = model.step

    def ending(inputs: Tensor, *others: object) -> tuple[Tensor, object, object]:
        rows.append(len(inputs))
        _, state, weights = step(inputs, *others)  # type: ignore[arg-type]
        sure = torch.tensor([0.0, 1.0 if len(rows) == 2 else 0.0, 0.0, 0.0], dtype=torch.float64)
        likely = torch.tensor([0.3, 1e-9, 0.4, 0.3], dtype=torch.float64)
        return (sure if len(rows) == 2 else likely).log().expand(len(inputs), -1), state, weights

    monkeypatch.setattr(model, "step", ending)
    found = search(model, [2, 3, 1], [3, 3, 3, 1], settings=BeamSettings(num_beams=3))
    assert rows == [2, 6]
    assert [sentence[0].tokens for sentence in found] == [[2], [2]]
    assert [len(sentence) for sentence in found] == [3, 3]


def test_penalties_by_hand() -> None:
    assert length_penalty(torch.tensor(7.0), alpha=0.5).item() == pytest.approx(2**0.5)  # (5 + 7) / 6 = 2
    coverage = torch.tensor([[0.5, 1.5, 9.0], [0.25, 0.5, 0.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    # log 0.5 + log 1 + log 1, and log 0.25 + log 0.5 = 3 · log 0.5
    assert coverage_penalty(coverage, mask, beta=0.2).tolist() == pytest.approx(
        [0.2 * math.log(0.5), 0.6 * math.log(0.5)]
    )
    assert coverage_penalty(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), beta=1.0).isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_beams": 0}, "num_beams=0: must be at least 1"),
        ({"alpha": -0.1}, "alpha=-0.1: must be at least 0"),
        ({"beta": math.nan}, "beta=nan"),
        ({"margin": -1.0}, "margin=-1.0"),
        ({"max_ratio": 0.0}, "max_ratio=0.0: must be above 0"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BeamSettings(**wrong)  # type: ignore[arg-type]
