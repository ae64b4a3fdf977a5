"""The language model against a literal composition of its parts; padding, dropout and settings."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from outrageous.config import GateConfig, GateKind, LanguageModelConfig, Layer, MoEConfig
from outrageous.models.language_model import LanguageModel
from outrageous.models.mixture import build_moe
from outrageous.moe import MoE, MoEReport, NoisyTopKGate, SoftmaxGate

LSTM, MOE = Layer.lstm, Layer.moe
NOISY = MoEConfig(gate=GateConfig(GateKind.noisy_top_k, k=2), num_experts=5, d_hidden=[7])
DEEP = MoEConfig(gate=GateConfig(GateKind.softmax), num_experts=1, d_hidden=[3, 4])

INPUTS = torch.tensor([[1, 4, 2, 8], [3, 1, 0, 0], [5, 0, 0, 0]])  # 0 is padding
MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [True, False, False, False]])


def config(*layers: Layer, moe: MoEConfig | None = None, units: int = 6, dropout: float = 0.0) -> LanguageModelConfig:
    return LanguageModelConfig(
        d_model=6, layers=list(layers), lstm_units=units, dropout=dropout, num_sampled=3, moe=moe
    )


def build(settings: LanguageModelConfig) -> LanguageModel:
    model = LanguageModel(settings, vocabulary_size=10).double()
    for layer in model.layers:
        if isinstance(layer, MoE):
            for weight in layer.gate.parameters():
                nn.init.normal_(weight)
    return model


def twin(model: LanguageModel, drop: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[MoEReport]]:
    """Appendix C, sentence by sentence without padding; the MoE sees the words of all sentences together."""
    lengths = MASK.sum(dim=1).tolist()
    sentences = [drop(model.embedding(line[:length])) for line, length in zip(INPUTS, lengths, strict=True)]
    reports = []
    for layer in model.layers:
        if isinstance(layer, MoE):
            mixed, report = layer(torch.cat(sentences))
            outs = torch.sigmoid(mixed).split(lengths)  # sigmoid before dropout
            reports.append(report)
        else:
            outs = [layer(sentence.unsqueeze(0)).squeeze(0) for sentence in sentences]
        sentences = [sentence + drop(out) for sentence, out in zip(sentences, outs, strict=True)]
    return torch.cat(sentences), reports


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "settings",
    [
        config(LSTM, MOE, LSTM, moe=NOISY),
        config(LSTM, MOE, LSTM, moe=DEEP),
        config(LSTM, LSTM, LSTM, LSTM),
        config(LSTM, units=24),
        config(MOE, LSTM, MOE, moe=NOISY, units=8),
    ],
    ids=["moe", "deep", "4xlstm", "projected", "two moes"],
)
def test_model_equals_its_twin(settings: LanguageModelConfig, training: bool) -> None:
    def drop(x: Tensor) -> Tensor:  # in the place of dropout, something that draws no numbers
        return 0.9 * x - 0.1

    model = build(settings).train(training)
    model.dropout.register_forward_hook(lambda _, inputs, output: drop(output))
    torch.manual_seed(3)
    hidden, reports = model(INPUTS, MASK)
    torch.manual_seed(3)
    expected, expected_reports = twin(model, drop)

    assert hidden.shape == (7, 6)
    assert_close(hidden, expected, rtol=1e-9, atol=1e-9)
    assert len(reports) == len(expected_reports) == settings.layers.count(MOE)
    direction = torch.randn_like(hidden)
    scalars = []
    for some_hidden, some_reports in ((hidden, reports), (expected, expected_reports)):
        balance = sum((r.importance.square().sum() + r.load.square().sum() for r in some_reports), torch.zeros(()))
        scalars.append((some_hidden * direction).sum() + balance)
    grads, expected_grads = [
        torch.autograd.grad(scalar, list(model.parameters()), allow_unused=True, materialize_grads=True)
        for scalar in scalars
    ]
    assert_close(scalars[0], scalars[1], rtol=1e-9, atol=1e-9)
    assert_close(grads, expected_grads, rtol=1e-9, atol=1e-9)


def run(model: LanguageModel, inputs: Tensor, mask: Tensor) -> tuple[Tensor, MoEReport, list[Tensor]]:
    torch.manual_seed(3)
    hidden, (report,) = model(inputs, mask)
    loss = hidden.square().sum() + report.importance.square().sum() + report.load.square().sum()
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return hidden, report, list(grads)


def test_padding_changes_nothing() -> None:
    model = build(config(LSTM, MOE, LSTM, moe=NOISY, units=8))
    hidden, report, grads = run(model, INPUTS, MASK)
    other_padding = torch.where(MASK, INPUTS, torch.tensor(9))
    more_padding = torch.cat([other_padding, torch.full((3, 5), 7)], dim=1)
    more_mask = torch.cat([MASK, torch.zeros(3, 5, dtype=torch.bool)], dim=1)
    for inputs, mask in ((other_padding, MASK), (more_padding, more_mask)):
        other_hidden, other_report, other_grads = run(model, inputs, mask)
        assert_close(other_hidden, hidden, rtol=1e-9, atol=1e-9)
        assert torch.equal(other_report.tokens_per_expert, report.tokens_per_expert)
        assert_close(other_report.importance, report.importance, rtol=1e-9, atol=1e-9)
        assert_close(other_report.load, report.load, rtol=1e-9, atol=1e-9)
        assert_close(other_grads, grads, rtol=1e-9, atol=1e-9)
    assert report.tokens_per_expert.sum() == 2 * 7  # seven words, two experts each
    embedding_grad = grads[0]
    assert embedding_grad[0].eq(0).all()  # the padding's
    assert embedding_grad[1].ne(0).all()


def test_dropout_follows_embedding_and_every_layer() -> None:
    """With everything dropped, nothing gets past: the residuals add what came out of dropout."""
    model = build(config(LSTM, MOE, LSTM, moe=NOISY))
    seen: list[Tensor] = []

    def drop_everything(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        seen.append(inputs[0])
        return torch.zeros_like(output)

    model.dropout.register_forward_hook(drop_everything)
    hidden, _ = model(INPUTS, MASK)
    assert len(seen) == 4  # embedding, LSTM, MoE, LSTM
    assert torch.equal(seen[0], model.embedding(INPUTS))
    assert ((seen[2][MASK] > 0) & (seen[2][MASK] < 1)).all()  # the MoE's, after its sigmoid
    assert hidden.eq(0).all()


def test_dropout_has_the_set_probability_and_rests_in_evaluation() -> None:
    model = build(config(LSTM, dropout=0.3))
    dropped: list[float] = []
    model.dropout.register_forward_hook(lambda _, inputs, output: dropped.append((output == 0).double().mean().item()))
    inputs, mask = torch.randint(10, (40, 50)), torch.ones(40, 50, dtype=torch.bool)
    model(inputs, mask)
    # 12,000 values: standard error 0.004
    assert dropped == pytest.approx([0.3, 0.3], abs=0.02)
    dropped.clear()
    model.eval()(inputs, mask)
    assert dropped == [0, 0]


def test_autocast_keeps_the_residual_stream_in_float32() -> None:
    model = build(config(LSTM, MOE, LSTM, moe=NOISY)).float()
    torch.manual_seed(3)
    exact, _ = model(INPUTS, MASK)
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, _ = model(INPUTS, MASK)
    assert hidden.dtype == torch.float32
    assert_close(hidden, exact, rtol=0.05, atol=0.05)


def test_build_moe() -> None:
    noisy = build_moe(NOISY, d_model=6)
    assert isinstance(noisy.gate, NoisyTopKGate)
    assert (noisy.gate.num_experts, noisy.gate.k, noisy.experts.d_hidden) == (5, 2, (7,))
    deep = build_moe(DEEP, d_model=6)
    assert isinstance(deep.gate, SoftmaxGate)
    assert (deep.gate.num_experts, deep.experts.d_hidden) == (1, (3, 4))


def noisy_with(k: int | None) -> MoEConfig:
    return MoEConfig(gate=GateConfig(GateKind.noisy_top_k, k=k), num_experts=5, d_hidden=[7])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (config(LSTM, dropout=1.0), r"dropout=1.0: must lie in \[0, 1\)"),
        (config(LSTM, dropout=-0.1), "dropout=-0.1"),
        (config(LSTM, MOE), r"layers=\['lstm', 'moe'\] and moe=None contradict"),
        (config(LSTM, LSTM, moe=NOISY), "contradict"),
        (config(LSTM, MOE, moe=noisy_with(k=None)), "gate.k is not set"),
        (config(LSTM, MOE, moe=noisy_with(k=6)), "k=6"),
        (config(LSTM, MOE, moe=noisy_with(k=0)), "k=0"),
        (
            config(MOE, moe=MoEConfig(GateConfig(GateKind.softmax, k=4), 4, [7])),
            "gate.k=4: the softmax gate uses every",
        ),
        (config(MOE, moe=MoEConfig(GateConfig(GateKind.softmax), 0, [7])), "num_experts=0"),
        (config(MOE, moe=MoEConfig(GateConfig(GateKind.softmax), 4, [])), r"d_hidden=\[\]"),
        (config(LSTM, units=5), "num_units=5"),
    ],
)
def test_wrong_settings_are_named(settings: LanguageModelConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LanguageModel(settings, vocabulary_size=10)


def test_the_vocabulary_must_be_larger_than_the_sample() -> None:
    with pytest.raises(ValueError, match="num_sampled=3"):
        LanguageModel(config(LSTM), vocabulary_size=3)
