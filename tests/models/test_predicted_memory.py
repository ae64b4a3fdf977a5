"""Predicted memory: by hand, against the tensors autograd saves, and against the memory of a process."""

import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from outrageous.config import (
    ExpertOptimizer,
    GateConfig,
    GateKind,
    LanguageModelConfig,
    Layer,
    MoEConfig,
    OptimizerConfig,
)
from outrageous.models.language_model import LanguageModel
from outrageous.models.predicted_memory import kept_floats_per_word, predict_memory
from outrageous.moe import balancing_loss
from outrageous.optim.build import build_optimizer

TOLERANCE = 0.05  # of the activations: indices are counted roughly
LSTM_MOE_LSTM = [Layer.lstm, Layer.moe, Layer.lstm]


def moe(kind: GateKind, num_experts: int, k: int | None, d_hidden: int, num_groups: int | None = None) -> MoEConfig:
    return MoEConfig(GateConfig(kind, k), num_experts, [d_hidden], num_groups)


FLAT = moe(GateKind.noisy_top_k, 32, 4, 128)
HIERARCHY = moe(GateKind.noisy_top_k, 64, 2, 128, num_groups=8)
CONFIGS = {
    "lstms": LanguageModelConfig(32, [Layer.lstm, Layer.lstm], 32, 0.0, 100),
    "projected": LanguageModelConfig(32, [Layer.lstm, Layer.lstm], 128, 0.0, 100),
    "flat": LanguageModelConfig(32, LSTM_MOE_LSTM, 32, 0.0, 100, FLAT),
    "many_small_experts": LanguageModelConfig(32, LSTM_MOE_LSTM, 32, 0.0, 100, moe(GateKind.noisy_top_k, 256, 4, 16)),
    "hierarchy": LanguageModelConfig(32, LSTM_MOE_LSTM, 32, 0.0, 100, HIERARCHY),
    "always_on": LanguageModelConfig(32, LSTM_MOE_LSTM, 32, 0.0, 100, moe(GateKind.softmax, 1, None, 512)),
    "balanced": LanguageModelConfig(32, LSTM_MOE_LSTM, 32, 0.0, 100, moe(GateKind.strictly_balanced, 32, 4, 128)),
    "dropout": LanguageModelConfig(32, LSTM_MOE_LSTM, 32, 0.1, 100, FLAT),
}


def large(recompute: bool) -> LanguageModelConfig:
    """Some 34 MB of experts' weights."""
    experts = moe(GateKind.noisy_top_k, 64, 2, 512, num_groups=8)
    experts.recompute = recompute
    return LanguageModelConfig(128, LSTM_MOE_LSTM, 128, 0.0, 200, experts)


def loss_of(model: LanguageModel, sentences: int, length: int) -> Tensor:
    """Of random sentences without padding, balancing losses included."""
    words = torch.randint(model.softmax.weight.shape[0], (2, sentences, length))
    hidden, reports = model(words[0], torch.ones(sentences, length, dtype=torch.bool))
    balance = sum((balancing_loss(report, 0.1, 0.1) + report.threshold_loss for report in reports), torch.zeros(()))
    return model.softmax.sampled_loss(hidden, words[1].flatten()) + balance


def kept_bytes(model: LanguageModel, sentences: int, length: int) -> int:
    """Of all memory that autograd refers to after the forward pass, but for the parameters'."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # kept alive: no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of(model, sentences, length)
    return sum(tensor.untyped_storage().nbytes() for start, tensor in saved.items() if start not in parameters)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_activations_are_the_tensors_that_autograd_saves(name: str, recompute: bool) -> None:
    config = CONFIGS[name]
    if config.moe:
        config.moe.recompute = recompute
    model = LanguageModel(config, vocabulary_size=500)
    # The difference of two batches leaves out what is kept for a batch however large it is.
    kept = (kept_bytes(model, 40, 20) - kept_bytes(model, 20, 20)) / (20 * 20)
    assert kept == pytest.approx(4 * kept_floats_per_word(model, recompute), rel=TOLERANCE)


def test_logits_of_several_chunks_are_not_kept() -> None:
    config = CONFIGS["lstms"]
    model = LanguageModel(config, vocabulary_size=500)
    with patch("outrageous.models.sampled_softmax.LOGITS_AT_ONCE", 10 * config.num_sampled):
        kept = (kept_bytes(model, 40, 20) - kept_bytes(model, 20, 20)) / (20 * 20)
        predicted = [predict_memory(model, words, 1, factored=False, recompute=False) for words in (400, 800)]
    expected = 4 * (kept_floats_per_word(model, recompute=False) - config.num_sampled)
    assert kept == pytest.approx(expected, rel=TOLERANCE)
    assert predicted[1].activations - predicted[0].activations == 400 * expected


@pytest.mark.parametrize("name", ["flat", "hierarchy", "projected"])
@pytest.mark.parametrize("experts", [ExpertOptimizer.adam, ExpertOptimizer.factored_adam])
def test_weights_and_optimizer_are_those_of_a_model_that_was_trained(name: str, experts: ExpertOptimizer) -> None:
    model = LanguageModel(CONFIGS[name], vocabulary_size=500)
    optimizer = build_optimizer(model, OptimizerConfig(0.01, 0.9, 0.999, 1e-8, None, experts))
    loss_of(model, 4, 5).backward()
    optimizer.step()
    state = [value for of_weight in optimizer.state.values() for key, value in of_weight.items() if key != "step"]
    predicted = predict_memory(model, 20, 1, factored=experts is ExpertOptimizer.factored_adam, recompute=False)
    assert predicted.weights == predicted.gradients == _bytes(list(model.parameters()))
    assert predicted.gradients == _bytes([p.grad for p in model.parameters() if p.grad is not None])
    assert predicted.optimizer == _bytes(state)


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize(
    ("name", "num_devices", "share"),
    [
        ("flat", 8, 4 / 32),
        ("flat", 5, 7 / 32),  # 32 experts on five devices: the fullest has seven
        ("flat", 64, 1 / 32),
        ("hierarchy", 4, 2 / 8),  # whole groups
        ("hierarchy", 16, 1 / 8),
    ],
)
def test_experts_are_shared_out_and_all_else_is_on_every_device(name: str, num_devices: int, share: float) -> None:
    with torch.device("meta"):
        model = LanguageModel(CONFIGS[name], vocabulary_size=500)
    experts = 4 * sum(parameter.numel() for parameter in model.layers[1].get_submodule("experts").parameters())
    alone = predict_memory(model, 1000, 1, factored=False, recompute=False)
    one_of_many = predict_memory(model, 1000, num_devices, factored=False, recompute=False)
    assert one_of_many.weights == one_of_many.gradients == alone.weights - experts + share * experts
    assert one_of_many.optimizer == 2 * one_of_many.weights
    same_words = predict_memory(model, -(-1000 // num_devices), 1, factored=False, recompute=False)
    assert one_of_many.activations == same_words.activations


def test_what_a_hierarchy_saves_by_hand() -> None:
    with torch.device("meta"):
        model = LanguageModel(CONFIGS["hierarchy"], vocabulary_size=500)
    plain = predict_memory(model, 1000, 1, factored=False, recompute=False)
    saving = predict_memory(model, 1000, 1, factored=True, recompute=True)
    # hidden activations: 1000 words, 4 experts each, 128 floats of 4 bytes
    assert plain.activations - saving.activations == 1000 * 4 * 128 * 4
    # 64 experts of two matrices 32·128: two moments, against 32 + 128 means of a matrix
    assert plain.optimizer - saving.optimizer == 64 * 2 * (2 * 32 * 128 - (32 + 128)) * 4
    # of each word, what autograd keeps, and the gradients of two groups' and four experts' rows, in and out; 100
    # sampled classes, and each word's logits of these and its own, twice
    kept = kept_floats_per_word(model, recompute=False) + 2 * (2 + 4) * 32
    assert plain.activations == 4 * (1000 * kept + 100 * 32 + 2 * 1000 * 101)
    assert plain.total == plain.weights + plain.gradients + plain.optimizer + plain.activations


PEAK = """
import re, sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from outrageous.config import ExpertOptimizer, OptimizerConfig
from outrageous.models.language_model import LanguageModel
from outrageous.optim.build import build_optimizer
from test_predicted_memory import CONFIGS, large, loss_of

def steps(config, sentences, times):
    model = LanguageModel(config, vocabulary_size=2000)
    optimizer = build_optimizer(model, OptimizerConfig(0.01, 0.9, 0.999, 1e-8, None, ExpertOptimizer.{experts}))
    for _ in range(times):
        loss = loss_of(model, sentences, 20)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

def peak():  # of this program alone, where ru_maxrss would begin with that of the process that started it
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

steps(CONFIGS["flat"], 2, 2)  # libraries take memory of their own at first
before = peak()
steps(large({recompute}), 400, 3)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
@pytest.mark.parametrize(("recompute", "experts"), [(False, "adam"), (True, "factored_adam")])
def test_a_process_grows_by_the_predicted_memory(recompute: bool, experts: str) -> None:
    script = PEAK.format(tests=str(Path(__file__).parent), experts=experts, recompute=recompute)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    with torch.device("meta"):
        model = LanguageModel(large(recompute), vocabulary_size=2000)
    predicted = predict_memory(model, 400 * 20, 1, factored=experts == "factored_adam", recompute=recompute)
    assert int(done.stdout) == pytest.approx(predicted.total, rel=0.12)
