"""The softmax over the vocabulary: by importance sampling while training, in full while evaluating.

Axes: T tokens, D d_model, V vocabulary, S sampled classes. The sampling is TensorFlow's `sampled_softmax_loss` with a
`log_uniform_candidate_sampler`, as Jozefowicz et al. (2016) used it.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outrageous.models.sampled_loss import sum_of_losses
from outrageous.moe.grouped import without_autocast

UNLIKELY = 1e-18  # once in more steps than all computers will take


@dataclass(frozen=True)
class Sample:
    """Distinct classes drawn for a whole batch.

    Attributes:
        classes: [S] int64, distinct, in the order they were drawn.
        num_tries: draws it took to find S distinct classes, a scalar tensor.
    """

    classes: Tensor
    num_tries: Tensor


class LogUniformSampler:
    """Draws classes k with p(k) = log((k+2)/(k+1)) / log(V+1): Zipf's law over ids sorted by falling frequency."""

    def __init__(self, num_classes: int, num_sampled: int) -> None:
        """Raises ValueError unless 0 < num_sampled < num_classes."""
        if not 0 < num_sampled < num_classes:
            raise ValueError(
                f"num_sampled={num_sampled}: must lie between 1 and num_classes - 1 = {num_classes - 1}; "
                "lower it, or use the full softmax"
            )
        self.num_classes, self.num_sampled = num_classes, num_sampled
        self.num_draws = self._enough_draws()

    def sample(self, device: torch.device) -> Sample:
        """The first S distinct classes that PyTorch's generator draws. It is not asked whether enough have been drawn,
        for which a GPU would have to be waited for: so many are that there are."""
        drawn = self.draw(self.num_draws, device)
        first = _first_occurrences(drawn)[: self.num_sampled]
        return Sample(classes=drawn[first], num_tries=first[-1] + 1)

    def _enough_draws(self) -> int:
        """2S, doubled until fewer than S distinct classes are found with a probability below UNLIKELY at most."""
        k = np.arange(self.num_classes)
        never = np.log1p(-np.log1p(1 / (k + 1)) / math.log(self.num_classes + 1))  # log(1 - p(k))
        num_draws = 2 * self.num_sampled
        while True:
            missing = np.exp(num_draws * never).sum()  # classes, on average
            found, spare = self.num_classes - missing, self.num_classes - self.num_sampled
            # Bounds of that probability: Markov's, and Chernoff's, since of classes that are found each makes others
            # less likely.
            markov = missing / (spare + 1)
            chernoff = math.exp(-(max(0.0, found - self.num_sampled) ** 2) / (2 * found))
            if min(markov, chernoff) < UNLIKELY:
                return num_draws
            num_draws *= 2

    def expected_count(self, classes: Tensor, num_tries: Tensor) -> Tensor:
        """Q(k) = 1 - (1 - p(k))^T for T tries: the probability that class k is in the sample; float32, any shape."""
        k = classes.double()
        probability = torch.log1p(1 / (k + 1)) / math.log(self.num_classes + 1)
        return -torch.expm1(num_tries * torch.log1p(-probability)).float()

    def draw(self, num_draws: int, device: torch.device) -> Tensor:
        """Classes [num_draws], any of them several times."""
        # float64: in float32 u has 2^24 values, too few to reach every id of a large vocabulary.
        u = torch.rand(num_draws, dtype=torch.float64, device=device)
        classes = torch.exp(u * math.log(self.num_classes + 1)).long() - 1
        return classes.clamp_(max=self.num_classes - 1)  # exp may round up to V + 1


def _first_occurrences(drawn: Tensor) -> Tensor:
    """Positions at which a class is drawn for the first time, rising; behind them n, no position; drawn [n] -> [n]."""
    ordered, position = torch.sort(drawn, stable=True)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return position.masked_fill(~is_first, len(drawn)).sort().values


def _accidental_hits(target: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """target [T], classes [S] distinct -> [T], whether a target is among the classes, and [T], in which place: any,
    where it is not."""
    ordered, position = torch.sort(classes)
    slot = torch.searchsorted(ordered, target).clamp_(max=classes.numel() - 1)
    return ordered[slot] == target, position[slot]


class FullSoftmax(nn.Module):
    """Output embedding [V, D] and bias [V]."""

    def __init__(self, num_classes: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, d_model))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        nn.init.normal_(self.weight, std=d_model**-0.5)

    def loss(self, hidden: Tensor, target: Tensor, num_words: float | None = None) -> Tensor:
        """Mean cross-entropy over the whole vocabulary; hidden [T, D], target [T] int64. num_words: instead of T, what
        the sum is divided by, where these are a part of a batch."""
        loss = F.cross_entropy(self._logits(hidden), target, reduction="sum")
        return loss / (len(target) if num_words is None else num_words)

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """log p(· | hidden), hidden [T, D] -> [T, V], float32 at least."""
        return self._logits(hidden).log_softmax(dim=1)

    @torch.no_grad()
    def negative_log_likelihood(self, hidden: Tensor, target: Tensor, tokens_per_chunk: int = 1024) -> Tensor:
        """-log p(target | hidden), [T], computed in float32 at least; holds tokens_per_chunk · V logits at once."""
        chunks = zip(hidden.split(tokens_per_chunk), target.split(tokens_per_chunk), strict=True)
        with without_autocast(hidden):
            return torch.cat(
                [F.cross_entropy(self._logits(h.to(self.weight.dtype)), t, reduction="none") for h, t in chunks]
            )

    def _logits(self, hidden: Tensor) -> Tensor:
        logits = F.linear(hidden, self.weight, self.bias)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class VocabularySoftmax(FullSoftmax):
    """With both ways to compute the negative log-likelihood of targets: in full, and over sampled classes.

    Attributes:
        sparse: whether the gradient of `weight` is a sparse tensor, of the rows that a loss over sampled classes uses.
    """

    def __init__(self, num_classes: int, d_model: int, num_sampled: int) -> None:
        """Raises ValueError if num_sampled does not fit num_classes."""
        super().__init__(num_classes, d_model)
        self.sampler = LogUniformSampler(num_classes, num_sampled)
        self.sparse = False

    def sampled_loss(self, hidden: Tensor, target: Tensor, num_words: float | None = None) -> Tensor:
        """Mean cross-entropy over the true class and S sampled ones; no likelihood, so no perplexity follows from it.

        Args:
            hidden: [T, D].
            target: [T] int64.
            num_words: as in `loss`.
        """
        sample = self.sampler.sample(hidden.device)
        return self.loss_for_sample(hidden, target, sample, num_words)

    def loss_for_sample(self, hidden: Tensor, target: Tensor, sample: Sample, num_words: float | None = None) -> Tensor:
        """`sampled_loss` for a given sample. log Q is subtracted from true and sampled logits alike; sampled classes
        equal to a row's target are left out of that row."""
        log_q_target = self.sampler.expected_count(target, sample.num_tries).log()  # [T]
        log_q_sample = self.sampler.expected_count(sample.classes, sample.num_tries).log()  # [S]
        # Looked up at once: each look-up of its own would make a gradient as large as the table.
        rows = F.embedding(torch.cat([target, sample.classes]), self.weight, sparse=self.sparse)
        of_target, of_sample = rows.split([len(target), len(sample.classes)])  # [T, D], [S, D]
        true_logit = (hidden * of_target).sum(dim=1) + self.bias[target] - log_q_target
        hits = _accidental_hits(target, sample.classes)
        total = sum_of_losses(hidden, true_logit, *hits, of_sample, self.bias[sample.classes] - log_q_sample)
        return total / (len(target) if num_words is None else num_words)
