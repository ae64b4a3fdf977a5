"""Beam search of Wu et al. (2016), many sentences at once, one decoder step for each new word.

Axes: S sentences, K places in a beam, R live hypotheses of all sentences, sorted by sentence, C candidates that take
their place, L longest source, V vocabulary. A finished hypothesis keeps its place in its sentence's beam but is no row
of any batch any more, and a sentence leaves the batch with its last live one. So a beam of one place is greedy search.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from outrageous.models.gnmt import TranslationModel


@dataclass(frozen=True)
class BeamSettings:
    """
    Attributes:
        num_beams: K.
        alpha: of the length penalty lp = ((5 + |Y|) / 6)^α, at least 0; |Y| counts the end mark.
        beta: of the coverage penalty cp = β · Σ_i log(min(Σ_j p_ij, 1)), at least 0.
        margin: a word is tried only where its log-probability lies no more than this below that of the best word after
            the same words; and finished hypotheses whose score lies more than this below their sentence's best are
            dropped, as are live ones that cannot end any nearer.
        max_ratio: most words of a translation for each word of the source, end marks counted.
    """

    num_beams: int = 4
    alpha: float = 0.2
    beta: float = 0.2
    margin: float = 3.0
    max_ratio: float = 2.0

    def __post_init__(self) -> None:
        """Raises ValueError naming what is out of its range."""
        if self.num_beams < 1:
            raise ValueError(f"num_beams={self.num_beams}: must be at least 1")
        for name in ("alpha", "beta", "margin"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 0")
        if not 0 < self.max_ratio < math.inf:
            raise ValueError(f"max_ratio={self.max_ratio}: must be above 0 and finite")


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation.

    Attributes:
        tokens: without the end mark.
        score: log_probability / lp + cp.
        log_probability: of tokens and end mark; of the tokens alone where they reached the length limit.
        attention: [|Y|, length of the source], the weights with which each word was predicted, the end mark's last;
            None unless asked for.
    """

    tokens: list[int]
    score: float
    log_probability: float
    attention: Tensor | None


@torch.no_grad()
def beam_search(
    model: TranslationModel,
    source: Tensor,
    source_mask: Tensor,
    bos: int,
    eos: int,
    settings: BeamSettings,
    keep_attention: bool = False,
) -> list[list[Hypothesis]]:
    """
    Args:
        model: in evaluation.
        source: [S, L] int64, no sentence empty; padding at the end.
        source_mask: [S, L] bool, False at padding.
        bos, eos: the token before the first word, and the one that ends a translation.
        keep_attention: whether to return the weights of the attention.

    Returns:
        for each sentence its finished hypotheses, at least one and at most K, best first.
    """
    search = _Search(model, source, source_mask, bos, eos, settings, keep_attention)
    while len(search.sentence):
        search.advance()
    return search.results()


def length_penalty(length: Tensor, alpha: float) -> Tensor:
    """Eq. 14 of Wu et al.: lp of so many words."""
    return ((5 + length) / 6) ** alpha


def coverage_penalty(coverage: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Eq. 14 of Wu et al.: cp, at most 0.

    Args:
        coverage: [R, L], the sum of the attention's weights over all words.
        mask: [R, L] bool, False at padding.
    """
    logarithm = coverage.clamp(min=torch.finfo(coverage.dtype).tiny, max=1).log()  # weights may underflow to 0
    return beta * logarithm.masked_fill(~mask, 0).sum(dim=1)


@dataclass(frozen=True)
class _Step:
    """The C candidates that a step chose. before: each one's predecessor among the candidates of the step before."""

    before: list[int]
    token: list[int]
    attention: Tensor | None


class _Search:
    """R live rows and what has been found."""

    def __init__(
        self,
        model: TranslationModel,
        source: Tensor,
        mask: Tensor,
        bos: int,
        eos: int,
        settings: BeamSettings,
        keep_attention: bool,
    ) -> None:
        self.model, self.eos, self.settings, self.keep_attention = model, eos, settings, keep_attention
        self.state, self.memory = model.start(source, mask)
        self.source_lengths = mask.sum(dim=1)  # [S]
        self.limit = (settings.max_ratio * self.source_lengths).long().clamp(min=1)  # [S]
        num_sentences = len(source)
        values = self.memory.values
        dtype = torch.promote_types(values.dtype, torch.float32)
        self.best_score = torch.full((num_sentences,), -torch.inf, dtype=dtype, device=values.device)
        self.places = torch.full((num_sentences,), settings.num_beams, device=values.device)
        self.finished: list[list[Hypothesis]] = [[] for _ in range(num_sentences)]
        self.history: list[_Step] = []
        # Of the live rows: sentence, index among the candidates of the latest step, latest word, log-probability so
        # far, and sum of the attention's weights.
        self.sentence = self.candidate = torch.arange(num_sentences, device=values.device)
        self.inputs = torch.full_like(self.sentence, bos)
        self.log_probability = torch.zeros_like(self.best_score)
        self.coverage = torch.zeros_like(values[:, :, 0], dtype=dtype)

    def advance(self) -> None:
        """One word more."""
        settings, length = self.settings, len(self.history) + 1
        log_probabilities, state, weights = self.model.step(self.inputs, self.state, self.memory)
        coverage = self.coverage + weights
        parent, token, log_probability = self._choose(log_probabilities)
        sentence = self.sentence[parent]
        attention = weights[parent] if self.keep_attention else None
        self.history.append(_Step(self.candidate[parent].tolist(), token.tolist(), attention))

        ended = (token == self.eos) | (length >= self.limit[sentence])
        penalty = length_penalty(torch.full_like(log_probability, length), settings.alpha)
        score = log_probability / penalty
        score += coverage_penalty(coverage, self.memory.mask, settings.beta)[parent]
        for index in ended.nonzero().flatten().tolist():
            self._finish(index, int(sentence[index]), float(score[index]), float(log_probability[index]))
        self.best_score.scatter_reduce_(0, sentence[ended], score[ended], "amax")
        self.places -= torch.bincount(sentence[ended], minlength=len(self.places))

        # The log-probability can only fall, and no penalty divides by more than that of the length limit.
        highest = log_probability / length_penalty(self.limit[sentence], settings.alpha)
        live = (~ended & (highest >= self.best_score[sentence] - settings.margin)).nonzero().flatten()
        rows = parent[live]
        if not torch.equal(sentence[live], self.sentence):
            self.memory = self.memory.select(rows)
        self.state, self.coverage = state.select(rows), coverage[rows]
        self.sentence, self.candidate = sentence[live], live
        self.inputs, self.log_probability = token[live], log_probability[live]

    def _choose(self, log_probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best continuations of each sentence, as many as its beam has places left.

        Args:
            log_probabilities: [R, V] of the next word.

        Returns:
            of each of C continuations its row, its word and its log-probability, sorted by sentence.
        """
        num_sentences, num_beams = len(self.places), self.settings.num_beams
        best, words = log_probabilities.topk(min(num_beams, log_probabilities.shape[1]))  # [R, K]
        best = best.masked_fill(best < best[:, :1] - self.settings.margin, -torch.inf)
        rows_per_sentence = torch.bincount(self.sentence, minlength=num_sentences)
        first_row = rows_per_sentence.cumsum(0) - rows_per_sentence
        place = torch.arange(len(self.sentence), device=best.device) - first_row[self.sentence]
        grid = best.new_full((num_sentences, num_beams, best.shape[1]), -torch.inf)
        grid[self.sentence, place] = self.log_probability.unsqueeze(1) + best
        best, index = grid.flatten(1).topk(num_beams)  # [S, K]
        kept = (torch.arange(num_beams, device=best.device) < self.places.unsqueeze(1)) & (best > -torch.inf)
        index = index[kept]
        parent = first_row[kept.nonzero()[:, 0]] + index // grid.shape[2]
        return parent, words[parent, index % grid.shape[2]], best[kept]

    def _finish(self, candidate: int, sentence: int, score: float, log_probability: float) -> None:
        """Reads the words of a candidate of the latest step back from the history."""
        tokens, attention = [], []
        for step in reversed(self.history):
            tokens.append(step.token[candidate])
            if step.attention is not None:
                attention.append(step.attention[candidate, : self.source_lengths[sentence]])
            candidate = step.before[candidate]
        tokens.reverse()
        if tokens[-1] == self.eos:
            tokens.pop()
        weights = torch.stack(attention[::-1]) if self.keep_attention else None
        self.finished[sentence].append(Hypothesis(tokens, score, log_probability, weights))

    def results(self) -> list[list[Hypothesis]]:
        """Of each sentence, best first."""
        ranked = [sorted(found, key=lambda hypothesis: -hypothesis.score) for found in self.finished]
        margin = self.settings.margin
        return [[one for one in found if one.score >= found[0].score - margin] for found in ranked]
