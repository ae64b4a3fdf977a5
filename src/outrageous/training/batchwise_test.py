"""What it costs strictly balanced gates that thresholds choose in evaluation, and not the batch as in training."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from outrageous.moe import StrictlyBalancedGate, StrictlyBalancedGates
from outrageous.results.translation_metrics import perplexity_per_wordpiece
from outrageous.training.supervised_module import AnyBatch, SupervisedModule


@torch.no_grad()
def batchwise_perplexity(module: SupervisedModule, batches: Iterable[AnyBatch]) -> dict[str, float]:
    """test_perplexity_batchwise, of a text whose batches give each expert as many words as in training (Eq. 18), in all
    else in evaluation; nothing for a model without strictly balanced gates."""
    module.eval()
    nll, num_tokens = 0.0, 0
    with _choosing_by_batch(module) as found:
        for batch in batches if found else ():
            batch = batch.to(module.device)
            hidden, _ = module.hidden(batch)
            nll += module.model.softmax.negative_log_likelihood(hidden, batch.predicted).double().sum().item()
            num_tokens += batch.num_tokens
    return {"test_perplexity_batchwise": perplexity_per_wordpiece(nll, num_tokens)} if found else {}


@contextmanager
def _choosing_by_batch(module: nn.Module) -> Iterator[bool]:
    """Whether there are strictly balanced gates, which choose as in training meanwhile; they draw no noise."""
    gates = [part for part in module.modules() if isinstance(part, StrictlyBalancedGate | StrictlyBalancedGates)]
    for gate in gates:
        gate.train()
    try:
        yield bool(gates)
    finally:
        for gate in gates:
            gate.eval()
