"""BLEU against a literal multi-bleu and by hand; perplexity per wordpiece."""

import math
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrageous.results.translation_metrics import bleu_scores, multi_bleu, perplexity_per_wordpiece, split_compounds

WORDS = st.lists(st.sampled_from(["a", "b", "c", "."]), min_size=1, max_size=9).map(" ".join)


def literal_multi_bleu(hypotheses: list[str], references: list[str]) -> float:
    """What multi-bleu.perl does: matches of n-grams clipped to the reference, geometric mean, brevity penalty."""
    correct, total = [0] * 4, [0] * 4
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        words, wanted = hypothesis.split(), reference.split()
        for n in range(1, 5):
            grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
            there = Counter(tuple(wanted[i : i + n]) for i in range(len(wanted) - n + 1))
            correct[n - 1] += sum(min(count, there[gram]) for gram, count in grams.items())
            total[n - 1] += sum(grams.values())
    if not all(correct):
        return 0.0
    lengths = [sum(len(text.split()) for text in side) for side in (hypotheses, references)]
    penalty = min(1.0, math.exp(1 - lengths[1] / lengths[0]))
    return 100 * penalty * math.exp(sum(math.log(c / t) for c, t in zip(correct, total, strict=True)) / 4)


def test_bleu_by_hand() -> None:
    # No three words in a row are right: unsmoothed BLEU is 0
    assert multi_bleu(["the cat was sat down"], ["the cat then sat down again"]) == 0
    # "a b c d e" against "a b c d f g": 4/5, 3/4, 2/3, 1/2, product 1/5; brevity exp(1 - 6/5)
    expected = 100 * math.exp(-1 / 5) * (1 / 5) ** (1 / 4)
    assert multi_bleu(["a b c d e"], ["a b c d f g"]) == pytest.approx(expected)
    assert multi_bleu(["a b c d"], ["a b c d"]) == pytest.approx(100)


@given(pairs=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
def test_bleu_equals_a_literal_multi_bleu(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = map(list, zip(*pairs, strict=True))
    assert multi_bleu(hypotheses, references) == pytest.approx(literal_multi_bleu(hypotheses, references), abs=1e-9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ein gut-gemeinter Rat", "ein gut ##AT##-##AT## gemeinter Rat"),
        ("a - b", "a - b"),
        ("E-Mail-Adresse", "E ##AT##-##AT## Mail ##AT##-##AT## Adresse"),
        ("ohne", "ohne"),
    ],
)
def test_compounds_are_split_by_hand(text: str, expected: str) -> None:
    assert split_compounds(text) == expected


def test_three_scores_side_by_side() -> None:
    hypotheses = ["Das ist ein gut-gemeinter, alter Rat.", "Ein Hund schläft hier."]
    references = ["Das ist ein gut-gemeinter, neuer Rat.", "Ein Hund schläft hier."]
    scores = bleu_scores(hypotheses, references, "en-de")
    moses = [["Das ist ein gut-gemeinter , alter Rat .", "Ein Hund schläft hier ."]]
    moses.append([moses[0][0].replace("alter", "neuer"), moses[0][1]])
    assert scores.tokenised == pytest.approx(literal_multi_bleu(*moses))
    assert scores.compounds_split == pytest.approx(
        literal_multi_bleu(*([*map(split_compounds, side)] for side in moses))
    )
    assert scores.compounds_split is not None
    assert scores.compounds_split > scores.tokenised  # gut-gemeinter counts as three words that are right
    assert scores.sacrebleu == pytest.approx(scores.tokenised)  # 13a leaves compounds whole, as Moses does
    assert "tok:13a" in scores.signature
    assert "smooth:exp" in scores.signature
    assert bleu_scores(hypotheses, references, "en-fr").compounds_split is None


def test_quotes_and_ampersands_are_not_escaped() -> None:
    text = 'Er sagt "a & b" und <geht> fort.'
    assert bleu_scores([text], [text], "en-de").tokenised == pytest.approx(100)
    assert bleu_scores([text.replace("&", "+")], [text], "en-de").tokenised < 100


@pytest.mark.parametrize(("language", "tokeniser"), [("zh", "zh"), ("ja", "char"), ("xx", "13a")])
def test_any_language_has_a_score(language: str, tokeniser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MeCab", None)  # what sacreBLEU wants for Japanese, and nothing here installs
    text = "日 本 語 の テスト 。"
    scores = bleu_scores([text], [text], f"en-{language}")
    assert scores.sacrebleu == pytest.approx(100)
    assert f"tok:{tokeniser}|" in scores.signature


def test_bleu_of_nothing_and_of_unequal_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="0 translations of 0 references"):
        bleu_scores([], [], "en-de")
    with pytest.raises(ValueError, match="1 translations of 2 references"):
        bleu_scores(["a"], ["a", "b"], "en-de")


def test_perplexity_by_hand() -> None:
    # eight choices alike at each of 5 wordpieces: 5 ln 8 nats
    assert perplexity_per_wordpiece(5 * math.log(8), 5) == pytest.approx(8)
    assert perplexity_per_wordpiece(1e6, 1) == math.inf
    with pytest.raises(ValueError, match="num_predicted=0"):
        perplexity_per_wordpiece(1.0, 0)
