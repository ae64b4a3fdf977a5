"""Memory that training takes on a GPU, predicted without one and without taking any.

A step is run, forward and backward, as a GPU computes it, on PyTorch's fake tensors, which have shapes and no numbers;
what their memory would be is added up as they come and go. So what is predicted is what the code does, in the dtypes of
its settings. Whoever asks such a tensor for a number gets an error: a step that can be predicted waits for nothing but
the numbers of rows of a hierarchy of strictly balanced gates.

cuDNN's LSTMs are imagined (`imagined.py`). Not counted: the CUDA context and libraries' workspaces, together about a
gigabyte, fragments, and of several devices what they send each other.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from outrageous.config import AnyRunConfig, ExpertOptimizer, RunConfig, TableOptimizer
from outrageous.data.batching import Batch
from outrageous.data.pair_dataset import PairBatch
from outrageous.errors import UserError
from outrageous.moe import Mixtures, MoE
from outrageous.moe.device import as_on_gpu
from outrageous.moe.part import at_hand
from outrageous.moe.routing import MoEReport, Routing
from outrageous.optim.combined import CombinedOptimizer
from outrageous.optim.factored_adam import FactoredAdam
from outrageous.training.imagined import ImaginedPart, imagine_lstms
from outrageous.training.memory_tally import Tally
from outrageous.training.supervised_module import AnyBatch, SupervisedModule
from outrageous.training.tasks import build_module

LENGTH = 26  # of sentences, about One Billion Word's mean


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        gradients: of all weights, when there are all.
        peak: the most at a time, of weights, optimizer, gradients and activations together.
    """

    weights: int
    optimizer: int
    gradients: int
    peak: int


def predict_memory(config: AnyRunConfig, vocabulary_size: int, num_devices: int = 1) -> Memory:
    """Of one of `num_devices` GPUs, which share the batch's words evenly, and experts (groups) as well as these can be
    divided; experts' rows are taken to be even.

    Raises UserError if the model's sizes do not fit together, and for optimizers whose memory cannot be told so.
    """
    if config.optim.tables is TableOptimizer.sparse_adam:
        raise UserError("optim.tables=sparse_adam: its gradients depend on a batch's words, so no memory is predicted")
    if config.optim.experts is ExpertOptimizer.gradient_free:
        raise UserError("optim.experts=gradient_free: on a CPU only, and memory is predicted of a GPU")
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        stack.enter_context(as_on_gpu())
        stack.enter_context(at_hand(ImaginedPart()))
        tally = stack.enter_context(Tally())
        module = build_module(config, vocabulary_size, origin={})
        if num_devices > 1:
            for moe in [part for part in module.modules() if isinstance(part, MoE)]:
                moe.experts = _Here(moe.experts, num_devices)
        imagine_lstms(module)
        weights = sum(parameter.nbytes for parameter in module.parameters())
        optimizer = sum(map(_bytes_of_state, _parts(module.configure_optimizers()["optimizer"])))
        batch = batch_of(config, -(-config.trainer.words_per_batch // num_devices))
        peak = peak_of_step(module, batch, config.trainer.precision == "bf16-mixed", tally)
        gradients = sum(parameter.grad.nbytes for parameter in module.parameters() if parameter.grad is not None)
    return Memory(weights, optimizer, gradients, peak + optimizer)


def peak_of_step(module: SupervisedModule, batch: AnyBatch, bfloat16: bool, tally: Tally) -> int:
    """Bytes at a time that the tally sees of forward and backward pass, between two updates, of a module without
    gradients: those of the step before are gone when a step begins."""
    tally.start_again()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = module.training_step(batch, 0)["loss"]
    loss.backward()
    module.gradients_and_norm()
    return tally.peak


def batch_of(config: AnyRunConfig, num_words: int, length: int = LENGTH) -> AnyBatch:
    """Of sentences of `length` words without padding but in the last, of the same word: of a language model num_words
    are predicted, of translation both sides have as many together."""
    if isinstance(config, RunConfig):
        sentences = torch.zeros(-(-num_words // length), length, dtype=torch.int64)
        mask = torch.ones_like(sentences, dtype=torch.bool)
        return Batch(sentences, sentences.clone(), mask, torch.arange(num_words))
    sentences = torch.zeros(max(1, num_words // (2 * length)), length, dtype=torch.int64)
    mask, words = torch.ones_like(sentences, dtype=torch.bool), torch.arange(sentences.numel())
    return PairBatch(sentences, mask, words, sentences.clone(), sentences.clone(), mask.clone(), words.clone())


class _Here(nn.Module):
    """Of experts (groups) those of one device: the first, with as many rows as come to all others."""

    def __init__(self, experts: Any, num_devices: int) -> None:
        super().__init__()
        whole = experts.num_experts
        self.num_experts, self.num_here = whole, -(-whole // num_devices)
        for module in experts.modules():
            for name, weight in list(module.named_parameters(recurse=False)):
                own = weight.new_empty(len(weight) * self.num_here // whole, *weight.shape[1:])
                setattr(module, name, nn.Parameter(own))
        if isinstance(experts, Mixtures):
            experts.gates.num_groups = self.num_here
        self.experts = experts

    def forward(self, rows: Tensor, routing: Routing) -> tuple[Tensor, MoEReport]:
        names = ("tokens_per_expert", "importance", "load")
        here: dict[str, Any] = {name: getattr(routing, name)[: self.num_here] for name in names}
        out: tuple[Tensor, MoEReport] = self.experts(rows, replace(routing, **here))
        return out


def _parts(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    return list(optimizer.parts) if isinstance(optimizer, CombinedOptimizer) else [optimizer]


def _bytes_of_state(optimizer: torch.optim.Optimizer) -> int:
    weights: list[Tensor] = list(chain.from_iterable(group["params"] for group in optimizer.param_groups))
    if not isinstance(optimizer, FactoredAdam):
        return sum(2 * weight.nbytes for weight in weights)  # both moments
    return sum(
        weight.nbytes // weight.shape[-1] + weight.nbytes // weight.shape[-2] if weight.dim() > 1 else weight.nbytes
        for weight in weights
    )
