"""Against counts and probabilities worked by hand, and against a literal twin on dictionaries of tuples."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrageous.models.kneser_ney import FALLBACK, KneserNey, discounts, perplexity

A, B, C, EOS, BOS = range(5)


def stream(*sentences: list[int]) -> np.ndarray:
    return np.array([word for sentence in sentences for word in (BOS, *sentence, EOS)], np.int32)


class Twin:
    """The definitions read aloud: one n-gram at a time."""

    def __init__(self, sentences: list[list[int]], order: int, vocabulary_size: int = 5) -> None:
        self.order, self.vocabulary_size = order, vocabulary_size
        counts: Counter[tuple[int, ...]] = Counter()
        for sentence in sentences:
            words = [BOS, *sentence, EOS]
            for end in range(1, len(words) + 1):
                for n in range(1, min(order, end) + 1):
                    counts[tuple(words[end - n : end])] += 1
        preceding = defaultdict(set)
        for gram in counts:
            preceding[gram[1:]].add(gram[0])
        self.adjusted = {
            gram: count if len(gram) == order or gram[0] == BOS else len(preceding[gram])
            for gram, count in counts.items()
            if gram != (BOS,)
        }
        self.d = {
            n: discounts(np.array([a for gram, a in self.adjusted.items() if len(gram) == n], np.int64))
            for n in range(1, order + 1)
        }

    def probability(self, word: int, context: tuple[int, ...]) -> float:
        if len(context) >= self.order:
            context = context[len(context) - self.order + 1 :]
        lower = self.probability(word, context[1:]) if context else 1 / (self.vocabulary_size - 1)
        d = self.d[len(context) + 1]
        following = {gram[-1]: a for gram, a in self.adjusted.items() if gram[:-1] == context}
        total = sum(following.values())
        if not total:
            return lower
        a = following.get(word, 0)
        backoff = sum(d[min(a, 3)] for a in following.values()) / total
        return float((a - d[min(a, 3)]) / total + backoff * lower)


def test_a_bigram_model_worked_by_hand() -> None:
    # <s> a b </s>, <s> a </s>: bigrams <s> a: 2, a b: 1, b </s>: 1, a </s>: 1.
    # Words before a: {<s>}, before b: {a}, before </s>: {b, a}; so a(a) = 1, a(b) = 1, a(</s>) = 2, together 4.
    # No bigram or word counts three, so discounts are 0.5, 1 and 1.5. Uniform part: 1/4, since <s> is never predicted.
    model = KneserNey(stream([A, B], [A]), vocabulary_size=5, bos_id=BOS, order=2)
    backoff = (0.5 + 0.5 + 1) / 4
    a, b, eos, c = (1 - 0.5) / 4 + backoff / 4, (1 - 0.5) / 4 + backoff / 4, (2 - 1) / 4 + backoff / 4, backoff / 4
    assert a + b + c + eos == 1
    # After <s>: (2 - 1)/2 and 1/2 shared out; after a: b and </s> once each, (1 - 0.5)/2 and (0.5 + 0.5)/2 shared out.
    # After b: </s> alone, (1 - 0.5)/1 and 0.5 shared out. After c, never seen: as if alone.
    expected = [0.5 + 0.5 * a, 0.25 + 0.5 * b, 0.5 + 0.5 * eos, 0.5 * c, eos]
    given = model.log_probabilities(np.array([BOS, A, B, EOS, BOS, C, EOS]))
    np.testing.assert_allclose(np.exp(given), expected, rtol=1e-12)
    # Shares of <s> a, a b, b </s>, a </s>, a, b, </s>, and weights after <s>, a, b.
    assert (model.num_ngrams, model.num_parameters) == (7, 10)


def test_discounts_worked_by_hand() -> None:
    # 4 once, 2 twice, 1 three times, 1 four times, 2 five times or more: Y = 4/(4 + 2·2) = 1/2;
    # D1 = 1 − 2·½·2/4 = ½, D2 = 2 − 3·½·1/2 = 1.25, D3 = 3 − 4·½·1/1 = 1. Zeros (words never seen) do not count.
    counts = np.array([1, 1, 1, 1, 2, 2, 3, 4, 5, 9, 0, 0])
    np.testing.assert_allclose(discounts(counts), [0, 0.5, 1.25, 1.0], rtol=1e-15)


@pytest.mark.parametrize(
    "counts",
    [
        [1, 1, 2, 4],  # none three times
        [2, 3, 4],  # none once
        [1] * 2 + [2] * 2 + [3] + [4] * 3,  # Y = 2/6: D3 = 3 − 4·3/3 = −1
        [],
    ],
)
def test_counts_that_give_no_discounts_fall_back(counts: list[int]) -> None:
    np.testing.assert_array_equal(discounts(np.array(counts, np.int64)), FALLBACK)


sentences = st.lists(st.lists(st.sampled_from([A, B, C]), max_size=6), min_size=1, max_size=12)


@given(sentences, sentences, st.integers(1, 5))
def test_every_word_has_the_probability_of_the_twin(
    training: list[list[int]], test: list[list[int]], order: int
) -> None:
    model, twin = KneserNey(stream(*training), 5, BOS, order), Twin(training, order)
    expected = [
        math.log(twin.probability(words[i], tuple(words[:i])))
        for words in ([BOS, *sentence, EOS] for sentence in test)
        for i in range(1, len(words))
    ]
    np.testing.assert_allclose(model.log_probabilities(stream(*test)), expected, rtol=0, atol=1e-12)


def test_the_twin_is_equalled_where_the_discounts_come_from_the_counts() -> None:
    draw = np.random.default_rng(0)
    training = [draw.choice(3, size=draw.integers(0, 9), p=[0.7, 0.2, 0.1]).tolist() for _ in range(60)]
    test = [draw.choice(3, size=draw.integers(0, 9)).tolist() for _ in range(10)]
    twin = Twin(training, order=5)
    assert [n for n, d in twin.d.items() if d is not FALLBACK] == [3, 4, 5]
    expected = [
        math.log(twin.probability(words[i], tuple(words[:i])))
        for words in ([BOS, *sentence, EOS] for sentence in test)
        for i in range(1, len(words))
    ]
    np.testing.assert_allclose(
        KneserNey(stream(*training), 5, BOS).log_probabilities(stream(*test)), expected, rtol=0, atol=1e-12
    )


@given(sentences, st.lists(st.sampled_from([A, B, C]), max_size=6))
def test_the_probabilities_after_any_context_sum_to_one(training: list[list[int]], context: list[int]) -> None:
    model = KneserNey(stream(*training), 5, BOS)
    streams = [np.array([BOS, *context, word]) for word in (A, B, C, EOS)]
    total = sum(math.exp(model.log_probabilities(each)[-1]) for each in streams)
    assert total == pytest.approx(1, abs=1e-12)


def test_a_sentence_does_not_reach_into_the_next() -> None:
    model = KneserNey(stream([A, B], [B, C], [C, A, B]), 5, BOS)
    alone = [model.log_probabilities(stream(sentence)) for sentence in ([A, B], [C], [])]
    np.testing.assert_array_equal(model.log_probabilities(stream([A, B], [C], [])), np.concatenate(alone))


def test_more_context_helps_where_it_tells() -> None:
    """a b a b … is known for sure from one word, and hardly better than by chance from none."""
    text = stream(*([[A, B] * 5] * 20))
    none, one = (perplexity(KneserNey(text, 5, BOS, order).log_probabilities(text)) for order in (1, 2))
    assert none > 2.5
    assert one < 1.5


def test_perplexity_is_the_inverse_geometric_mean() -> None:
    assert perplexity(np.log([0.5, 0.125])) == pytest.approx(4)


@pytest.mark.parametrize(
    ("tokens", "order", "message"),
    [
        ([A, EOS], 5, "does not start with <s>, id 4"),
        ([], 5, "does not start"),
        ([BOS, 5], 5, "vocabulary of 5"),
        ([BOS, -1], 5, "ids -1 to 4"),
        ([BOS, EOS], 0, "order=0"),
    ],
)
def test_what_is_no_stream_is_refused(tokens: list[int], order: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KneserNey(np.array(tokens, np.int64), 5, BOS, order)


def test_sentences_shorter_than_the_order_are_enough() -> None:
    model = KneserNey(stream([]), 5, BOS)
    everywhere = itertools.chain(model.log_probabilities(stream([], [A, B, C])))
    assert all(-10 < value < 0 for value in everywhere)
