"""Which words of a text each expert is given, with which gate: what table 9 is made of.

Axes: S assignments of a word to an expert, W words of the text.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from outrageous.data.pair_dataset import PairBatch
from outrageous.data.vocabulary import Vocabulary
from outrageous.data.wordpieces import Wordpieces
from outrageous.moe import Mixtures, MoE, Routing
from outrageous.moe.hierarchical import nested
from outrageous.results.expert_tables import ExpertUse, to_html, to_text
from outrageous.results.files import write_bytes
from outrageous.results.specialisation import specialisation, top_contexts
from outrageous.training.run_folder import RunFolder
from outrageous.training.supervised_module import AnyBatch, SupervisedModule

NUM_CONTEXTS = 10


@torch.no_grad()
def expert_use(
    module: SupervisedModule, batches: Iterable[AnyBatch], vocabulary: Vocabulary | Wordpieces
) -> list[ExpertUse]:
    """For each MoE of the model, the encoder's first: its experts' specialisation, and the contexts of their largest
    gates. A decoder's or language model's word is the one that is read, before the one that is predicted.

    Args:
        module: is put into evaluation.
        batches: of a text; all that its MoEs are given is kept in memory.

    Returns:
        nothing for a model without experts, and none for an MoE whose gate gave no word to any expert.
    """
    module.eval()
    named = {name: part for name, part in module.named_modules() if isinstance(part, MoE)}
    names, moes = [name.removeprefix("model.").removesuffix(".moe") for name in named], list(named.values())
    collected: list[list[tuple[np.ndarray, ...]]] = [[] for _ in moes]
    num_words, num_experts = [0] * len(moes), [0] * len(moes)
    num_sentences = 0
    with ExitStack() as stack:
        routings = [stack.enter_context(_recorded(moe)) for moe in moes]
        for batch in batches if moes else ():
            batch = batch.to(module.device)
            module.hidden(batch)
            for i, (ids, mask) in enumerate(_given(batch, len(moes))):
                routing, word = routings[i]()
                words = ids[mask].cpu().numpy()
                sentence = num_sentences + mask.nonzero()[:, 0].cpu().numpy()
                expert, weight = routing.expert.cpu().numpy(), routing.weight.float().cpu().numpy()
                collected[i].append((expert, num_words[i] + word.cpu().numpy(), weight, words, sentence))
                num_words[i] += len(words)
                num_experts[i] = len(routing.tokens_per_expert)
            num_sentences += len(batch.inputs)
    return [
        _of_moe(name, number, [np.concatenate(column) for column in zip(*parts, strict=True)], vocabulary)
        for name, number, parts in zip(names, num_experts, collected, strict=True)
        if any(len(part[0]) for part in parts)
    ]


def leave_expert_use(uses: list[ExpertUse], folder: RunFolder, title: str) -> None:
    """Writes the contexts of all experts into the folder, as text and as a page; nothing where there are no experts."""
    if uses:
        write_bytes(folder.experts_text, to_text(uses, title).encode())
        write_bytes(folder.experts_page, to_html(uses, title).encode())


@contextmanager
def _recorded(moe: MoE) -> Iterator[Callable[[], tuple[Routing, Tensor]]]:
    """A function that returns of the latest pass the routing among all experts, and which word each row was [S]."""
    seen: dict[str, Routing] = {}

    def keep(level: str) -> Callable[[nn.Module, Any, Routing], None]:
        return lambda gate, inputs, routing: seen.update({level: routing})

    def latest() -> tuple[Routing, Tensor]:
        first = seen["first"]
        if not isinstance(moe.experts, Mixtures):
            return first, first.token
        inner = nested(first, seen["second"])
        return inner, first.token[inner.token]

    with ExitStack() as stack:
        stack.callback(moe.gate.register_forward_hook(keep("first")).remove)
        if isinstance(moe.experts, Mixtures):
            stack.callback(moe.experts.gates.register_forward_hook(keep("second")).remove)
        yield latest


def _given(batch: AnyBatch, num_moes: int) -> list[tuple[Tensor, Tensor]]:
    """The ids that each MoE is given, and where they are no padding, as the models mask them."""
    if isinstance(batch, PairBatch):
        return [(batch.source, batch.source_mask), (batch.inputs, batch.mask)]
    return [(batch.inputs, batch.mask)] * num_moes


def _of_moe(name: str, num_experts: int, columns: list[np.ndarray], vocabulary: Vocabulary | Wordpieces) -> ExpertUse:
    experts, positions, gates, words, sentences = columns
    if isinstance(vocabulary, Wordpieces):
        pieces = vocabulary.pieces(words.tolist())
    else:
        pieces = ["▁" + vocabulary.words[word] for word in words.tolist()]
    return ExpertUse(
        moe=name,
        num_words=len(words),
        num_experts=num_experts,
        specialisation=specialisation(experts, words[positions], gates),
        assignments=np.bincount(experts, minlength=num_experts).tolist(),
        contexts=top_contexts(experts, positions, gates, pieces, sentences, NUM_CONTEXTS),
    )
