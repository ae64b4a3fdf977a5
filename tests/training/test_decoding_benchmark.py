"""The decoding benchmark decodes as many words as it says, and both ways the same."""

import pytest
import torch

from outrageous.config import TranslationModelConfig
from outrageous.models.beam_search import beam_search
from outrageous.models.gnmt import TranslationModel
from outrageous.training import decoding_benchmark
from outrageous.training.decoding_benchmark import decoding_speeds


def test_every_turn_decodes_the_given_length_and_greedy_twice_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = TranslationModel(TranslationModelConfig(4, 8, dropout=0.0), vocabulary_size=9).double().eval()
    found: list[list[list[int]]] = []

    def spy(*arguments: object) -> object:
        result = beam_search(*arguments)  # type: ignore[arg-type]
        found.append([sentence[0].tokens for sentence in result])
        return result

    monkeypatch.setattr(decoding_benchmark, "beam_search", spy)
    bias = model.softmax.bias.clone()
    source = torch.randint(2, 9, (3, 5))
    speeds = decoding_speeds(model, source, lengths=[4, 7], beams=[1, 2], num_rounds=2)
    assert [(speed.name, speed.length) for speed in speeds] == [
        (name, length) for length in (4, 7) for name in ("beam of 1", "beam of 2", "greedy, encoding again")
    ]
    assert all(speed.seconds == pytest.approx(speed.seconds_per_word * 3 * speed.length) for speed in speeds)
    assert all(speed.seconds > 0 for speed in speeds)
    assert torch.equal(model.softmax.bias, bias)  # as it was
    assert [{len(tokens) for tokens in sentences} for sentences in found] == 2 * [{4}, {4}, {7}, {7}]

    with torch.no_grad():
        model.softmax.bias[decoding_benchmark.EOS] = -torch.inf
        again = decoding_benchmark._encoding_again(model, source, torch.ones_like(source, dtype=torch.bool), 7)()
    assert again.tolist() == found[2]
