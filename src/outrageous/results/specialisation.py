"""How specialised experts are: what an expert tells of the token, and the contexts it is chosen for most (table 9).

Axes: S assignments of a token to an expert, N experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Specialisation:
    """Mutual information of expert and token, in bits.

    Attributes:
        bits: as measured. A finite sample shows some where there is none.
        shuffled_mean, shuffled_std: the same with the experts dealt out anew among the same assignments, over several
            shuffles: what to expect of experts that know nothing of tokens.
        token_entropy: of the tokens: the most that experts could tell.
    """

    bits: float
    shuffled_mean: float
    shuffled_std: float
    token_entropy: float

    @property
    def above_chance(self) -> float:
        """Bits that experts tell of the token beyond the shuffled control."""
        return self.bits - self.shuffled_mean


@dataclass(frozen=True)
class Context:
    """One position. gate: the expert's gate there. before, token, after: the text around it."""

    gate: float
    before: str
    token: str
    after: str


def mutual_information(
    experts: NDArray[np.integer], tokens: NDArray[np.integer], weights: NDArray[np.floating]
) -> float:
    """I(E; X) = Σ p(e, x) log₂(p(e, x) / (p(e) p(x))), with p in proportion to the weights.

    Args:
        experts, tokens: [S] the expert and the token's id of each assignment.
        weights: [S] its gate; ones, to count assignments. Above zero in sum.
    """
    _, expert = np.unique(experts, return_inverse=True)
    _, token = np.unique(tokens, return_inverse=True)
    num_tokens = int(token.max()) + 1
    pairs, pair = np.unique(expert.astype(np.int64) * num_tokens + token, return_inverse=True)
    p = weights / weights.sum(dtype=np.float64)
    p_pair = np.bincount(pair, p)
    p_expert, p_token = np.bincount(expert, p), np.bincount(token, p)
    there = p_pair > 0
    pairs, p_pair = pairs[there], p_pair[there]
    independent = p_expert[pairs // num_tokens] * p_token[pairs % num_tokens]
    return float(np.sum(p_pair * np.log2(p_pair / independent)))


def specialisation(
    experts: NDArray[np.integer],
    tokens: NDArray[np.integer],
    weights: NDArray[np.floating],
    num_shuffles: int = 10,
    seed: int = 0,
) -> Specialisation:
    """Mutual information beside its shuffled control.

    Args:
        experts, tokens, weights: as `mutual_information`.

    Raises:
        ValueError: there are no assignments, not as many of each, or no weight above zero.
    """
    if not len(experts) == len(tokens) == len(weights) or not np.any(weights > 0) or np.any(weights < 0):
        raise ValueError(
            f"{len(experts)} experts, {len(tokens)} tokens, {len(weights)} weights: give as many of each, and weights "
            "of at least zero, not all of them zero"
        )
    generator = np.random.default_rng(seed)
    shuffled = []
    for _ in range(num_shuffles):  # as many assignments for each expert, but of other tokens
        order = generator.permutation(len(experts))
        shuffled.append(mutual_information(experts[order], tokens, weights))
    return Specialisation(
        bits=mutual_information(experts, tokens, weights),
        shuffled_mean=float(np.mean(shuffled)),
        shuffled_std=float(np.std(shuffled, ddof=1)) if num_shuffles > 1 else 0.0,
        token_entropy=mutual_information(tokens, tokens, weights),
    )


def top_contexts(
    experts: NDArray[np.integer],
    positions: NDArray[np.integer],
    gates: NDArray[np.floating],
    pieces: Sequence[str],
    sentences: NDArray[np.integer],
    num_contexts: int = 10,
    width: int = 5,
) -> dict[int, list[Context]]:
    """For each expert the positions where its gate is largest, and the text around them (table 9). A token that has one
    expert alone has a gate of 1, whatever the expert: of equal gates some are drawn at random, always the same, and of
    a sentence one position only, so that they are not all of one passage.

    Args:
        experts, positions, gates: [S] of each assignment the expert, the place in `pieces` and the gate.
        pieces: wordpieces of all sentences, one after the other.
        sentences: [pieces] number of the sentence that each stands in: contexts end where it ends.
        num_contexts: contexts for an expert, at most; the same text comes once.
        width: wordpieces on each side.
    """
    contexts: dict[int, list[Context]] = {int(expert): [] for expert in np.unique(experts)}
    seen: set[tuple[object, ...]] = set()
    drawn = np.random.default_rng(0).permutation(len(gates))
    for assignment in drawn[np.argsort(-gates[drawn], kind="stable")]:
        expert, position = int(experts[assignment]), int(positions[assignment])
        if len(contexts[expert]) == num_contexts:
            continue
        text = _around(pieces, sentences, position, width)
        keys: set[tuple[object, ...]] = {(expert, *text), (expert, int(sentences[position]))}
        if not keys & seen:
            seen |= keys
            contexts[expert].append(Context(float(gates[assignment]), *text))
    return contexts


def _around(pieces: Sequence[str], sentences: NDArray[np.integer], position: int, width: int) -> tuple[str, str, str]:
    """The text before a position, there and after it, words apart where a piece begins with ▁."""
    places = range(max(0, position - width), min(len(pieces), position + width + 1))
    here = [place for place in places if sentences[place] == sentences[position]]
    before = "".join(pieces[place] for place in here if place < position)
    after = "".join(pieces[place] for place in here if place > position)
    return before.replace("▁", " ").strip(), pieces[position].replace("▁", " ").strip(), after.replace("▁", " ").strip()
