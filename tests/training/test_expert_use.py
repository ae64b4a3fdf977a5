"""Experts whose word is known by construction are reported with just that word, flat and in a hierarchy."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from outrageous.data.batching import Batch
from outrageous.data.vocabulary import Vocabulary
from outrageous.moe import FeedForwardExperts, Mixtures, MoE, NoisyTopKGate, NoisyTopKGates
from outrageous.results.specialisation import Context
from outrageous.training.expert_use import expert_use

WORDS = ["a", "b", "c", "<unk>", "</s>", "<s>"]
NUM_EXPERTS = 6


class ByWord(nn.Module):
    """A model whose gate's logit of expert e is 5 for word e and 0 else."""

    device = torch.device("cpu")

    def __init__(self, moe: MoE) -> None:
        super().__init__()
        self.moe = moe

    def hidden(self, batch: Batch) -> tuple[Tensor, list[Any]]:
        x = nn.functional.one_hot(batch.inputs, NUM_EXPERTS).float()
        y, report = self.moe(x[batch.mask])
        return y, [report]


def flat() -> MoE:
    gate = NoisyTopKGate(NUM_EXPERTS, NUM_EXPERTS, k=1)
    gate.w_gate.data = 5 * torch.eye(NUM_EXPERTS)
    return MoE(gate, FeedForwardExperts(NUM_EXPERTS, NUM_EXPERTS, 2))


def hierarchical() -> MoE:
    """Group w // 3, and of it expert w % 3: expert number w again."""
    gate, gates = NoisyTopKGate(NUM_EXPERTS, 2, k=1), NoisyTopKGates(2, NUM_EXPERTS, 3, k=1)
    gate.w_gate.data = torch.eye(2).repeat_interleave(3, dim=0)
    gates.w_gate.data = torch.eye(3).repeat(2, 1).expand(2, -1, -1).clone()
    return MoE(gate, Mixtures(gates, FeedForwardExperts(NUM_EXPERTS, NUM_EXPERTS, 2)))


def batch(*rows: list[int]) -> Batch:
    length = max(map(len, rows))
    inputs = torch.tensor([row + [4] * (length - len(row)) for row in rows])
    mask = torch.tensor([[place < len(row) for place in range(length)] for row in rows])
    return Batch(inputs, inputs, mask, mask.flatten().nonzero()[:, 0])


@pytest.mark.parametrize("build", [flat, hierarchical])
def test_each_expert_is_given_its_own_word_and_padding_none(build: Any) -> None:
    module = ByWord(build())
    batches = [batch([5, 0, 1], [5, 2]), batch([5, 0])]
    [use] = expert_use(cast(Any, module), batches, Vocabulary(WORDS, [9, 8, 7, 6, 5, 0]))
    assert not module.training
    assert (use.moe, use.num_words, use.num_experts) == ("moe", 7, NUM_EXPERTS)
    assert use.assignments == [2, 1, 1, 0, 0, 3]  # a twice, b, c, <s> three times; </s> is only padding here
    # p = 2/7, 1/7, 1/7, 3/7: the expert tells all of the word
    entropy = -sum(n / 7 * torch.tensor(n / 7).log2().item() for n in (2, 1, 1, 3))
    assert use.specialisation.bits == pytest.approx(entropy, abs=1e-6)
    assert use.specialisation.token_entropy == pytest.approx(entropy, abs=1e-6)
    assert {*use.contexts} == {0, 1, 2, 5}
    assert {*use.contexts[0]} == {Context(1.0, "<s>", "a", "b"), Context(1.0, "<s>", "a", "")}
    assert use.contexts[2] == [Context(1.0, "<s>", "c", "")]


def test_a_model_without_experts_has_none_to_look_at() -> None:
    module = nn.Linear(2, 2)
    assert expert_use(cast(Any, module), [batch([5, 0])], Vocabulary(WORDS, [9, 8, 7, 6, 5, 0])) == []
