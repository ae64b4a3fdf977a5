"""The 5-gram baseline of tables 7 and 8: interpolated modified Kneser-Ney (Chen & Goodman 1998), on word ids.

Sentences come as one stream of ids, each opened by `<s>` and closed by `</s>`; `<s>` is context only, every other id is
predicted, `<unk>` like any word. An n-gram never reaches across a `<s>`, and the first words of a sentence have the
shorter contexts that begin with it.

    p(w | c) = (a(c w) − D(a(c w))) / Σ_v a(c v) + backoff(c) · p(w | c without its first word)
    backoff(c) = Σ_v D(a(c v)) / Σ_v a(c v), or 1 where nothing follows c;   p(w | ) ends in 1 / (V − 1), V less `<s>`

a is the count of an n-gram of the highest order or one that begins with `<s>`; of any other, the number of different
words before it. D has three values an order, for a = 1, 2 and 3 or more.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])


@dataclass(frozen=True)
class _Order:
    """The n-grams of one length n, G of them; an n-gram's id is its place.

    keys [G]: id of its first n - 1 words, times V, plus its last word; ascending.  share [G]: (a - D) / Σa.
    backoff [G of order n - 1]: of each context.
    """

    keys: Ints
    share: Floats
    backoff: Floats


class KneserNey:
    """A model of `order` words, estimated from a stream of ids. Float64; some 150 bytes a word of it while estimating.

    Attributes:
        num_ngrams: distinct n-grams of all lengths, `<s>` alone not among them.
        num_parameters: a share for each and a weight for each context that something follows.
    """

    def __init__(self, tokens: NDArray[np.integer], vocabulary_size: int, bos_id: int, order: int = 5) -> None:
        """tokens [T]: the training stream. Raises ValueError if it does not start with `<s>`, holds an id outside of
        the vocabulary, or if order < 1."""
        if order < 1:
            raise ValueError(f"order={order}: must be at least 1")
        self.vocabulary_size, self.bos_id = vocabulary_size, bos_id
        counts, keys, suffixes = _count(self._checked(tokens), vocabulary_size, bos_id, order)
        self._orders: list[_Order] = []
        for n in range(order):
            adjusted = counts[n]
            if n + 1 < order:
                preceding = np.bincount(suffixes[n + 1], minlength=len(adjusted))
                adjusted = np.where(preceding == 0, adjusted, preceding)  # none precedes an n-gram that begins with <s>
            if n == 0:
                adjusted[bos_id] = 0  # never predicted
            num_contexts = len(keys[n - 1]) if n else 1
            self._orders.append(_smooth(keys[n], adjusted, vocabulary_size, num_contexts))
        self.num_ngrams = sum(int(np.count_nonzero(order.share)) for order in self._orders)
        self.num_parameters = self.num_ngrams + sum(int(np.count_nonzero(o.backoff < 1)) for o in self._orders[1:])

    def log_probabilities(self, tokens: NDArray[np.integer]) -> Floats:
        """Natural logarithms, one for each id of the stream that is not `<s>`, in their order. Raises ValueError as
        the constructor does."""
        words = self._checked(tokens)
        is_bos = words == self.bos_id
        ids = np.zeros_like(words)  # of the words so far; before the first order, the one empty context
        probability = np.full(len(words), 1 / (self.vocabulary_size - 1))
        for n, order in enumerate(self._orders):
            contexts = _contexts(ids, is_bos) if n else ids
            seen = contexts >= 0
            probability[seen] *= order.backoff[contexts[seen]]
            ids = _look_up(order.keys, contexts, words, self.vocabulary_size)
            found = ids >= 0
            probability[found] += order.share[ids[found]]
        return np.log(probability[~is_bos])

    def _checked(self, tokens: NDArray[np.integer]) -> Ints:
        ids = tokens.astype(np.int64)
        if not len(ids) or ids[0] != self.bos_id:
            raise ValueError(f"the stream does not start with <s>, id {self.bos_id}; put it before each sentence")
        if ids.min() < 0 or ids.max() >= self.vocabulary_size:
            raise ValueError(f"ids {ids.min()} to {ids.max()} are not of a vocabulary of {self.vocabulary_size}")
        return ids


def perplexity(log_probabilities: Floats) -> float:
    """exp of the mean negative log-likelihood."""
    return float(np.exp(-log_probabilities.mean()))


def _count(tokens: Ints, vocabulary_size: int, bos_id: int, order: int) -> tuple[list[Ints], list[Ints], list[Ints]]:
    """For each length the n-grams' counts, their keys, and the ids of the n-grams one shorter that they end in."""
    is_bos = tokens == bos_id
    ids = tokens
    counts = [np.bincount(tokens, minlength=vocabulary_size)]
    keys = [np.arange(vocabulary_size)]
    suffixes = [np.zeros(vocabulary_size, np.int64)]
    for _ in range(1, order):
        contexts = _contexts(ids, is_bos)
        places = np.flatnonzero(contexts >= 0)
        pairs = contexts[places] * vocabulary_size + tokens[places]
        found, first, inverse, count = np.unique(pairs, return_index=True, return_inverse=True, return_counts=True)
        counts.append(count)
        keys.append(found)
        suffixes.append(ids[places[first]])
        ids = np.full(len(tokens), -1)
        ids[places] = inverse
    return counts, keys, suffixes


def _contexts(ids: Ints, is_bos: NDArray[np.bool_]) -> Ints:
    """ids [T] of the n-grams that end at each place -> of those that end before it; -1 at `<s>`, as where there is
    none."""
    contexts = np.roll(ids, 1)
    contexts[is_bos] = -1
    return contexts


def _look_up(keys: Ints, contexts: Ints, tokens: Ints, vocabulary_size: int) -> Ints:
    """The ids of n-grams, -1 for those that are not known."""
    wanted = contexts * vocabulary_size + tokens
    if not len(keys):
        return np.full(len(tokens), -1)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where((contexts >= 0) & (keys[places] == wanted), places, -1)


def _smooth(keys: Ints, adjusted: Ints, vocabulary_size: int, num_contexts: int) -> _Order:
    discount = discounts(adjusted)[np.minimum(adjusted, 3)]
    contexts = keys // vocabulary_size
    totals = np.bincount(contexts, adjusted, num_contexts)
    discounted = np.bincount(contexts, discount, num_contexts)
    backoff = np.divide(discounted, totals, out=np.ones(num_contexts), where=totals > 0)
    totals_of = totals[contexts]
    share = np.divide(adjusted - discount, totals_of, out=np.zeros(len(keys)), where=totals_of > 0)
    return _Order(keys, share, backoff)


def discounts(adjusted: Ints) -> Floats:
    """D for a = 0, 1, 2 and 3 or more: with n_a the number of n-grams of that count and Y = n_1 / (n_1 + 2 n_2),
    D_a = a − (a + 1) · Y · n_(a+1) / n_a (Chen & Goodman 1998, Eq. 26).

    Where so few n-grams leave one undefined, or outside of 0 to a, all are KenLM's fallback: 0.5, 1 and 1.5.
    """
    n = np.bincount(np.minimum(adjusted, 5), minlength=6)[1:5]  # n_1 … n_4
    if not n[:3].all():
        return FALLBACK
    y = n[0] / (n[0] + 2 * n[1])
    d = [a - (a + 1) * y * after / here for a, (here, after) in enumerate(pairwise(n), start=1)]
    if not all(0 < value <= a for a, value in enumerate(d, start=1)):
        return FALLBACK
    return np.array([0.0, *d])
