"""The translation model against a literal composition of its parts; padding, batches, decoding step by step."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from outrageous.config import AttentionKind, GateConfig, GateKind, MoEConfig, TranslationModelConfig
from outrageous.models.gnmt import TranslationModel, reverse
from outrageous.models.mixture import words_of
from outrageous.moe import MoE, MoEReport

NOISY = MoEConfig(GateConfig(GateKind.noisy_top_k, k=2), num_experts=5, d_hidden=[7])
BALANCED = MoEConfig(GateConfig(GateKind.strictly_balanced, k=2), num_experts=12, d_hidden=[5], num_groups=3)
PLAIN = TranslationModelConfig(d_model=4, lstm_units=6, dropout=0.0)

SETTINGS = {
    "plain": PLAIN,
    "unidirectional": replace(PLAIN, bidirectional=False),
    "additive": replace(PLAIN, attention=AttentionKind.additive),
    "noisy": replace(PLAIN, moe=NOISY),
    "balanced": replace(PLAIN, moe=BALANCED),
    "not projected": replace(PLAIN, lstm_units=4, moe=NOISY),
}

SOURCE = torch.tensor([[3, 4, 5, 1], [6, 1, 0, 0], [1, 0, 0, 0]])  # 0 is padding
SOURCE_MASK = SOURCE > 0
INPUTS = torch.tensor([[2, 7, 3, 0, 0], [2, 4, 4, 6, 3], [2, 0, 0, 0, 0]])
TARGET_MASK = INPUTS > 0


def build(settings: TranslationModelConfig) -> TranslationModel:
    torch.manual_seed(0)
    model = TranslationModel(settings, vocabulary_size=8).double()
    for moe in (model.encoder.moe, model.decoder.moe):
        if moe is not None:
            for name, weight in moe.named_parameters():
                if "w_gate" in name or "w_noise" in name:
                    nn.init.normal_(weight)
    return model


def sigmoid_mixture(moe: MoE | None, sentences: list[Tensor], reports: list[MoEReport]) -> list[Tensor] | None:
    if moe is None:
        return None
    out, report = moe(torch.cat(sentences))
    reports.append(report)
    return list(out.sigmoid().split([len(sentence) for sentence in sentences]))


def recurrence(layer: nn.Module, sentence: Tensor) -> Tensor:
    out: Tensor = layer(sentence.unsqueeze(0)).squeeze(0)
    return out


def twin_encoder(model: TranslationModel, drop: Callable[[Tensor], Tensor], reports: list[MoEReport]) -> list[Tensor]:
    """Appendix E, sentence by sentence without padding; the MoE sees the words of all sentences together."""
    first, second, third = model.encoder.lstms
    sentences = []
    for tokens, mask in zip(SOURCE, SOURCE_MASK, strict=True):
        x = drop(model.encoder.embedding(tokens[mask]))
        if model.config.bidirectional:
            x = x + drop(recurrence(first, x)) + drop(recurrence(second, x.flip(0)).flip(0))
        else:
            x = x + drop(recurrence(first, x))
            x = x + drop(recurrence(second, x))
        sentences.append(x)
    if mixed := sigmoid_mixture(model.encoder.moe, sentences, reports):
        sentences = [x + drop(out) for x, out in zip(sentences, mixed, strict=True)]
    return [x + drop(recurrence(third, x)) for x in sentences]


def twin(model: TranslationModel, drop: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[MoEReport]]:
    reports: list[MoEReport] = []
    encoded = twin_encoder(model, drop, reports)
    decoder, attention = model.decoder, model.decoder.first.attention
    weights = dict(decoder.first.lstm.lstm.named_parameters())
    sentences = []
    for tokens, mask, source in zip(INPUTS, TARGET_MASK, encoded, strict=True):
        words = drop(decoder.embedding(tokens[mask]))
        output, cell, added = words.new_zeros(4), words.new_zeros(model.config.lstm_units), []
        for word in words:
            everything = torch.ones(1, len(source), dtype=torch.bool)
            context, _ = attention((word + output).view(1, 1, 4), attention.remember(source.unsqueeze(0), everything))
            gates = weights["weight_ih_l0"] @ torch.cat([word, context.view(4)]) + weights["bias_ih_l0"]
            gates = gates + weights["weight_hh_l0"] @ output + weights["bias_hh_l0"]
            i, f, g, o = gates.chunk(4)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            output = torch.sigmoid(o) * torch.tanh(cell)
            if model.config.lstm_units > 4:
                output = weights["weight_hr_l0"] @ output
            added.append(context.view(4) + output)
        sentences.append(words + drop(torch.stack(added)))
    if mixed := sigmoid_mixture(decoder.moe, sentences, reports):
        sentences = [x + drop(out) for x, out in zip(sentences, mixed, strict=True)]
    return torch.cat([x + drop(recurrence(decoder.second, x)) for x in sentences]), reports


def gradients(model: TranslationModel, hidden: Tensor, reports: list[MoEReport]) -> list[Tensor]:
    direction = torch.arange(hidden.numel(), dtype=hidden.dtype).sin().view_as(hidden)
    balance = sum((r.importance.square().sum() + r.load.square().sum() for r in reports), torch.zeros(()))
    thresholds = sum((r.threshold_loss for r in reports), torch.zeros(()))
    scalar = (hidden * direction).sum() + balance + thresholds
    weights = list(model.parameters())
    return list(torch.autograd.grad(scalar, weights, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_model_equals_its_twin(settings: TranslationModelConfig, training: bool) -> None:
    def drop(x: Tensor) -> Tensor:  # in the place of dropout, something that draws no numbers
        return 0.9 * x - 0.1

    model = build(settings).train(training)
    for dropout in (model.encoder.dropout, model.decoder.dropout):
        dropout.register_forward_hook(lambda _, inputs, output: drop(output))
    torch.manual_seed(3)
    hidden, reports = model(SOURCE, SOURCE_MASK, INPUTS, TARGET_MASK)
    torch.manual_seed(3)
    expected, expected_reports = twin(model, drop)
    assert hidden.shape == (9, 4)
    assert len(reports) == len(expected_reports) == (0 if settings.moe is None else 2)
    assert_close(hidden, expected, rtol=1e-9, atol=1e-9)
    actual, wanted = gradients(model, hidden, reports), gradients(model, expected, expected_reports)
    assert_close(actual, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_padding_changes_nothing(settings: TranslationModelConfig) -> None:
    model = build(settings)
    torch.manual_seed(3)
    hidden, reports = model(SOURCE, SOURCE_MASK, INPUTS, TARGET_MASK)
    expected = gradients(model, hidden, reports)
    source = torch.cat([SOURCE.where(SOURCE_MASK, 5), torch.full((3, 2), 7)], dim=1)
    inputs = torch.cat([INPUTS.where(TARGET_MASK, 6), torch.full((3, 3), 5)], dim=1)
    source_mask = torch.cat([SOURCE_MASK, torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    target_mask = torch.cat([TARGET_MASK, torch.zeros(3, 3, dtype=torch.bool)], dim=1)
    torch.manual_seed(3)
    padded, padded_reports = model(source, source_mask, inputs, target_mask)
    assert_close(padded, hidden, rtol=1e-9, atol=1e-9)
    for one, other in zip(padded_reports, reports, strict=True):
        assert torch.equal(one.tokens_per_expert, other.tokens_per_expert)
        assert_close(one.threshold_loss, other.threshold_loss, rtol=1e-9, atol=1e-9)
    assert_close(gradients(model, padded, padded_reports), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_in_evaluation_a_pair_does_not_depend_on_its_batch(settings: TranslationModelConfig) -> None:
    model = build(settings).eval()
    hidden, _ = model(SOURCE, SOURCE_MASK, INPUTS, TARGET_MASK)
    alone = []
    for index in range(3):
        source = SOURCE[index][SOURCE_MASK[index]].unsqueeze(0)
        inputs = INPUTS[index][TARGET_MASK[index]].unsqueeze(0)
        alone.append(model(source, source > 0, inputs, inputs > 0)[0])
    assert_close(torch.cat(alone), hidden, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_decoding_step_by_step_equals_the_parallel_pass(settings: TranslationModelConfig) -> None:
    """Hypotheses change their rows and multiply on the way, as in a beam."""
    model = build(settings).eval()
    hidden, _ = model(SOURCE, SOURCE_MASK, INPUTS, torch.ones_like(TARGET_MASK))
    expected = model.softmax.log_probabilities(hidden).view(3, 5, 8)
    state, memory = model.start(SOURCE, SOURCE_MASK)
    sentence = torch.arange(3)
    for position in range(5):
        log_probabilities, state, weights = model.step(INPUTS[sentence, position], state, memory)
        assert_close(log_probabilities, expected[sentence, position], rtol=1e-9, atol=1e-9)
        assert_close(weights.sum(dim=1), torch.ones(len(sentence), dtype=torch.float64))
        assert weights[~SOURCE_MASK[sentence]].eq(0).all()
        rows = torch.randint(len(sentence), (4,))
        sentence, state, memory = sentence[rows], state.select(rows), memory.select(rows)


def test_the_two_kinds_of_encoder_have_the_same_weights() -> None:
    sizes = [
        {name: weight.shape for name, weight in build(SETTINGS[kind]).named_parameters()}
        for kind in ("plain", "unidirectional")
    ]
    assert sizes[0] == sizes[1]


def test_a_word_sees_the_whole_sentence_of_a_bidirectional_encoder_below_the_third_lstm() -> None:
    for kind, sees in (("plain", True), ("unidirectional", False)):
        encoder = build(SETTINGS[kind]).encoder
        changed = SOURCE.clone()
        changed[0, 3] = 7
        before, after = (encoder(tokens, SOURCE_MASK, words_of(SOURCE_MASK))[0][0, 0] for tokens in (SOURCE, changed))
        assert (before != after).all().item() is sees


def test_reversal_leaves_padding_in_place() -> None:
    x = torch.arange(12).view(3, 4, 1)
    reversed_ = reverse(x, SOURCE_MASK)
    assert reversed_.flatten().tolist() == [3, 2, 1, 0, 5, 4, 6, 7, 8, 9, 10, 11]
    assert torch.equal(reverse(reversed_, SOURCE_MASK), x)


def test_dropout_follows_embeddings_and_every_layer() -> None:
    """With everything dropped, nothing gets past: the residuals add what came out of dropout."""
    model = build(SETTINGS["noisy"])
    seen: list[Tensor] = []

    def drop_everything(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        seen.append(inputs[0])
        return torch.zeros_like(output)

    for dropout in (model.encoder.dropout, model.decoder.dropout):
        dropout.register_forward_hook(drop_everything)
    hidden, _ = model(SOURCE, SOURCE_MASK, INPUTS, TARGET_MASK)
    assert len(seen) == 5 + 4  # embedding, three LSTMs, MoE; embedding, two LSTMs, MoE
    assert hidden.eq(0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(PLAIN, dropout=1.0), r"dropout=1.0: must lie in \[0, 1\)"),
        (replace(PLAIN, lstm_units=3), r"num_units=3.*d_model=4"),
        (replace(PLAIN, moe=replace(NOISY, num_experts=1)), "k=2"),
    ],
)
def test_wrong_settings_are_named(settings: TranslationModelConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TranslationModel(settings, vocabulary_size=8)
