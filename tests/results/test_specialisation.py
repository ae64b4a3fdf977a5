"""Mutual information by hand, against a slow twin and its control; contexts by hand."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrageous.results.specialisation import Context, mutual_information, specialisation, top_contexts

ASSIGNMENTS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6), st.floats(0.01, 1.0)), min_size=1, max_size=40
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


def slowly(experts: np.ndarray, tokens: np.ndarray, weights: np.ndarray) -> float:
    """The definition, one pair after the other."""
    joint: Counter[tuple[int, int]] = Counter()
    for expert, token, weight in zip(experts.tolist(), tokens.tolist(), weights.tolist(), strict=True):
        joint[expert, token] += weight / weights.sum()
    of_expert, of_token = Counter[int](), Counter[int]()
    for (expert, token), p in joint.items():
        of_expert[expert] += p
        of_token[token] += p
    return sum(p * math.log2(p / (of_expert[e] * of_token[t])) for (e, t), p in joint.items())


def test_mutual_information_by_hand() -> None:
    ones = np.ones(4)
    # Expert 0 takes token 7 and expert 1 token 9, half of the time each: the expert tells one bit.
    assert mutual_information(np.array([0, 0, 1, 1]), np.array([7, 7, 9, 9]), ones) == pytest.approx(1)
    # Each expert takes both alike: it tells nothing.
    assert mutual_information(np.array([0, 0, 1, 1]), np.array([7, 9, 7, 9]), ones) == pytest.approx(0)
    # With weights 3, 1, 1, 3: p = ⅜ ⅛ ⅛ ⅜ where all halves are ½: 2·⅜·log₂(3/2) + 2·⅛·log₂(1/2)
    expected = 0.75 * math.log2(1.5) - 0.25
    found = mutual_information(np.array([0, 0, 1, 1]), np.array([7, 9, 7, 9]), np.array([3.0, 1.0, 1.0, 3.0]))
    assert found == pytest.approx(expected)


@given(assignments=ASSIGNMENTS)
def test_mutual_information_equals_its_slow_twin_and_its_bounds(
    assignments: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    experts, tokens, weights = assignments
    bits = mutual_information(experts, tokens, weights)
    assert bits == pytest.approx(slowly(experts, tokens, weights), abs=1e-9)
    assert bits == pytest.approx(mutual_information(tokens, experts, weights), abs=1e-9)
    assert -1e-9 <= bits <= mutual_information(tokens, tokens, weights) + 1e-9


def test_the_control_tells_specialised_experts_from_others() -> None:
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, 50, 4000)
    ones = np.ones(len(tokens))
    blind = specialisation(draw.integers(0, 8, 4000), tokens, ones)
    assert blind.bits > 0.02  # a finite sample shows some bits where there are none
    assert abs(blind.above_chance) < 4 * blind.shuffled_std
    special = specialisation(tokens % 8, tokens, ones)
    assert special.bits == pytest.approx(3, abs=0.05)  # one of eight experts, known from the token
    assert special.above_chance > 2.8
    assert special.token_entropy == pytest.approx(math.log2(50), abs=0.05)
    assert special == specialisation(tokens % 8, tokens, ones)  # seeded


@pytest.mark.parametrize(("num_experts", "weights"), [(0, []), (2, [1.0]), (2, [0.0, 0.0]), (2, [1.0, -1.0])], ids=str)
def test_assignments_that_make_no_sense_are_refused(num_experts: int, weights: list[float]) -> None:
    experts = np.zeros(num_experts, np.int64)
    with pytest.raises(ValueError, match="give as many of each, and weights of at least zero"):
        specialisation(experts, experts, np.array(weights))


def test_contexts_by_hand() -> None:
    pieces = ["▁the", "▁c", "at", "▁sat", "</s>", "▁the", "▁c", "at", "▁ran", "</s>"]
    sentences = np.array([0] * 5 + [1] * 5)
    experts = np.array([3, 3, 3, 1, 3])
    positions = np.array([1, 8, 6, 3, 0])
    gates = np.array([0.5, 0.9, 0.5, 0.2, 0.1])
    contexts = top_contexts(experts, positions, gates, pieces, sentences, num_contexts=2, width=1)
    assert contexts == {
        1: [Context(0.2, "at", "sat", "</s>")],
        3: [Context(0.9, "at", "ran", "</s>"), Context(0.5, "the", "c", "at")],
    }
    # "the c at" stands there twice; "ran" comes once a sentence; nothing crosses the end of a sentence
    three = top_contexts(experts, positions, gates, pieces, sentences, num_contexts=3, width=9)[3]
    assert three == [Context(0.9, "the cat", "ran", "</s>"), Context(0.5, "the", "c", "at sat</s>")]


def test_a_text_that_stands_there_twice_comes_once() -> None:
    pieces, sentences = ["▁a", "▁b", "▁a", "▁b", "▁c"], np.array([0, 0, 1, 1, 1])
    contexts = top_contexts(
        np.zeros(3, int), np.array([0, 2, 4]), np.array([0.9, 0.8, 0.1]), pieces, sentences, width=1
    )
    assert contexts == {0: [Context(0.9, "", "a", "b"), Context(0.1, "b", "c", "")]}


def test_of_equal_gates_some_are_drawn_each_of_another_sentence() -> None:
    """A hundred sentences of ten words, all of them with a gate of one."""
    places = np.arange(1000)
    pieces = [f"▁w{place}" for place in places]
    contexts = top_contexts(places * 0, places, np.ones(1000), pieces, places // 10, num_contexts=10)
    found = [int(one.token[1:]) // 10 for one in contexts[0]]
    assert len(found) == len({*found}) == 10
    assert max(found) - min(found) > 40  # not one passage
    assert contexts == top_contexts(places * 0, places, np.ones(1000), pieces, places // 10, num_contexts=10)
