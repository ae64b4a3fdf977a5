"""How good translations are: BLEU three ways, and perplexity per wordpiece."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BleuScores:
    """BLEU in percent, one reference a sentence.

    Attributes:
        tokenised: of words as Moses tokenises them, what multi-bleu.perl gives on such text: the paper's.
        compounds_split: the same with hyphenated compounds taken apart on both sides, as papers of the time did for
            English to German; None for other directions.
        sacrebleu: of the text as it is, tokenised as sacreBLEU does for the language, by 13a for most: comparable with
            later papers.
        signature: sacreBLEU's, for the last.
    """

    tokenised: float
    compounds_split: float | None
    sacrebleu: float
    signature: str


def bleu_scores(hypotheses: Sequence[str], references: Sequence[str], direction: str) -> BleuScores:
    """BLEU of detokenised translations.

    Args:
        hypotheses, references: a sentence each, in the same order.
        direction: as `en-de`.

    Raises:
        ValueError: there are none, or not as many of either.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} translations of {len(references)} references: give one for each, and some")
    target_language = direction.split("-")[1]
    tokenise = _moses_tokeniser(target_language)
    tokenised = [tokenise(text) for text in hypotheses], [tokenise(text) for text in references]
    split = None
    if direction == "en-de":
        split = multi_bleu(*([split_compounds(text) for text in side] for side in tokenised))
    metric = _sacrebleu(target_language)
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return BleuScores(multi_bleu(*tokenised), split, score, str(metric.get_signature()))


def multi_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """What multi-bleu.perl gives on tokenised text, in percent, not rounded: no smoothing, words as they stand."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    return float(metric.corpus_score(list(hypotheses), [list(references)]).score)


def split_compounds(tokenised: str) -> str:
    """`gut-gemeint` becomes `gut ##AT##-##AT## gemeint`, in tokenised text."""
    return re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", tokenised)


def perplexity_per_wordpiece(negative_log_likelihood: float, num_predicted: int) -> float:
    """exp(nats / predicted wordpieces), `</s>` predicted and counted. Infinite where it is too large for a float.

    Raises:
        ValueError: nothing was predicted.
    """
    if num_predicted < 1:
        raise ValueError(f"num_predicted={num_predicted}: perplexity needs at least one predicted wordpiece")
    try:
        return math.exp(negative_log_likelihood / num_predicted)
    except OverflowError:
        return math.inf


def _sacrebleu(language: str) -> Any:
    """With the tokeniser of the language; characters are words where that one, as for Japanese, is not installed."""
    from sacrebleu.metrics.bleu import BLEU

    try:
        return BLEU(trg_lang=language)
    except RuntimeError:
        return BLEU(tokenize="char")


def _moses_tokeniser(language: str) -> Callable[[str], str]:
    import sacremoses  # takes a second

    moses = sacremoses.MosesTokenizer(language)
    return lambda text: str(moses.tokenize(text, return_str=True, escape=False))
