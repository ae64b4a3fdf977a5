"""The benchmark of the fed back context runs what it says, forward and backward, and leaves the model as it was."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from outrageous.config import TranslationModelConfig
from outrageous.models.gnmt import TranslationModel
from outrageous.models.lstm import LSTM
from outrageous.training import feedback_benchmark
from outrageous.training.feedback_benchmark import FED_BACK, KNOWN, WHOLE, feedback_speeds


def test_every_part_takes_its_turn_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = TranslationModel(TranslationModelConfig(4, 8, dropout=0.0), vocabulary_size=9)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    calls: Counter[tuple[str, int]] = Counter()

    def count(name: str, part: nn.Module) -> None:
        def called(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, object]) -> None:
            calls.update([(name, inputs[0].shape[1])])
            hidden = output if isinstance(output, Tensor) else output[0]
            hidden.register_hook(lambda grad: calls.update([(f"{name}, backward", 0)]))

        part.register_forward_hook(called)

    class Known(LSTM):
        def __init__(self, d_model: int, num_units: int, d_input: int) -> None:
            super().__init__(d_model, num_units, d_input=d_input)
            count("known", self)

    monkeypatch.setattr(feedback_benchmark, "LSTM", Known)
    count("whole", model)
    count("fed back", model.decoder.first)
    speeds = feedback_speeds(model, num_pairs=3, source_length=5, lengths=[4, 7], num_rounds=2)
    assert [(speed.name, speed.length) for speed in speeds] == [
        (name, length) for length in (4, 7) for name in (WHOLE, FED_BACK, KNOWN)
    ]
    assert all(speed.seconds == pytest.approx(speed.seconds_per_step * speed.length) for speed in speeds)
    # three rounds, the first of which is not measured; the whole model has the first decoder LSTM in it
    assert {name: number for name, number in calls.items() if name[0] != "whole"} == {
        ("fed back", 4): 6,
        ("fed back", 7): 6,
        ("fed back, backward", 0): 12,
        ("known", 4): 3,
        ("known", 7): 3,
        ("known, backward", 0): 6,
        ("whole, backward", 0): 6,
    }
    assert calls["whole", 5] == 6  # its first argument is the source
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
