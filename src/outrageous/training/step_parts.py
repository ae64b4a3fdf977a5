"""Which parts of a language model the time of a step goes to, forward and backward, from a profiler's trace."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile, record_function

from outrageous.models.language_model import LanguageModel
from outrageous.models.lstm import LSTM
from outrageous.moe import FeedForwardExperts, Mixtures, MoE

DATA, OPTIMIZER, REST = "data", "optimizer", "rest"
WAITING = "waiting"  # the time of a GPU that is nobody's
MODULES: dict[str, tuple[type[nn.Module], ...]] = {
    "embedding": (nn.Embedding,),
    "LSTMs": (LSTM,),
    "experts": (FeedForwardExperts,),
    "exchange": (MoE, Mixtures),  # of rows, and all else between gates and experts
}
PARTS = (DATA, "embedding", "LSTMs", "gate", "exchange", "experts", "softmax", OPTIMIZER, REST)
LABEL = "part: "
BACKWARD = "autograd::engine::evaluate_function: "

P = ParamSpec("P")
R = TypeVar("R")


def label(part: str) -> record_function:
    """What is computed within it is of this part, unless labelled otherwise within."""
    return record_function(LABEL + part)


def label_parts(model: LanguageModel) -> None:
    """From now on the model labels what its parts compute. Gates are what a mixture has beside its experts."""
    model.softmax.sampled_loss = _labelled("softmax", model.softmax.sampled_loss)  # type: ignore[method-assign]
    for module in model.modules():
        for part, kinds in MODULES.items():
            if isinstance(module, kinds):
                module.forward = _labelled(part, module.forward)
        gate = getattr(module, "gate", getattr(module, "gates", None))
        if isinstance(gate, nn.Module):
            gate.forward = _labelled("gate", gate.forward)


def _labelled(part: str, function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with label(part):
            return function(*args, **kwargs)

    return call


def seconds_of_parts(trace: profile, on_gpu: bool) -> dict[str, float]:
    """Of a trace of labelled steps: seconds of the processor that computes, by part. What the backward pass does counts
    for the part whose forward pass made it necessary."""
    events = [event for event in trace.events() or [] if event.device_type.name == "CPU"]
    events.sort(key=lambda event: event.time_range.start)
    part_of_node: dict[int, str] = {}
    for event in events:
        # Of operations with the same number the last made the node: others came before it and made none.
        if event.sequence_nr >= 0 and not any(each.name.startswith(BACKWARD) for each in _around(event)):
            part_of_node[event.sequence_nr] = _part(event, {})
    seconds = dict.fromkeys(PARTS, 0.0)
    for event in events:
        microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        seconds[_part(event, part_of_node)] += microseconds / 1e6
    return seconds


def _part(event: FunctionEvent, part_of_node: dict[int, str]) -> str:
    for each in _around(event):
        if each.name.startswith(LABEL):
            return each.name.removeprefix(LABEL)
        if each.name.startswith(BACKWARD):
            return part_of_node.get(each.sequence_nr, REST)
    return REST


def _around(event: Any) -> Iterator[FunctionEvent]:
    """The event, and what it is within."""
    while event is not None:
        yield event
        event = event.cpu_parent
