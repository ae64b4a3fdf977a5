"""The LSTM against a hand-written cell, with and without projection."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from outrageous.models import lstm
from outrageous.models.lstm import LSTM


def twin(layer: LSTM, x: Tensor) -> Tensor:
    """Sentence by sentence and word by word; gates lie in the order input, forget, cell, output."""
    weights = dict(layer.lstm.named_parameters())
    sentences = []
    for sentence in x:
        output, cell = x.new_zeros(layer.d_model), x.new_zeros(layer.num_units)
        outputs = []
        for word in sentence:
            gates = weights["weight_ih_l0"] @ word + weights["bias_ih_l0"]
            gates = gates + weights["weight_hh_l0"] @ output + weights["bias_hh_l0"]
            i, f, g, o = gates.split(layer.num_units)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            output = torch.sigmoid(o) * torch.tanh(cell)
            if layer.num_units > layer.d_model:
                output = weights["weight_hr_l0"] @ output  # the projection also recurs
            outputs.append(output)
        sentences.append(torch.stack(outputs))
    return torch.stack(sentences)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_lstm_equals_its_twin(batch: int, length: int, d_model: int, more_units: int) -> None:
    torch.manual_seed(0)
    layer = LSTM(d_model, d_model + more_units).double()
    x = torch.randn(batch, length, d_model, dtype=torch.float64, requires_grad=True)
    y, expected = layer(x), twin(layer, x)
    assert y.shape == x.shape
    assert_close(y, expected, rtol=1e-9, atol=1e-9)

    direction, inputs = torch.randn_like(y), [x, *layer.parameters()]
    grads, expected_grads = [torch.autograd.grad(out, inputs, direction) for out in (y, expected)]
    assert_close(grads, expected_grads, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_units", [4, 7])
def test_forget_biases_start_at_one(num_units: int) -> None:
    lstm = LSTM(4, num_units).lstm
    bias = lstm.get_parameter("bias_ih_l0") + lstm.get_parameter("bias_hh_l0")
    forget = slice(num_units, 2 * num_units)
    assert bias[forget].tolist() == [1.0] * num_units
    others = torch.cat([bias[: forget.start], bias[forget.stop :]])
    assert others.abs().max() <= 2 * num_units**-0.5  # two, as nn.LSTM draws them


def test_a_projection_where_the_units_differ_only() -> None:
    assert "weight_hr_l0" not in dict(LSTM(4, 4).lstm.named_parameters())
    assert LSTM(4, 7).lstm.get_parameter("weight_hr_l0").shape == (4, 7)


@pytest.mark.parametrize("num_units", [4, 7])
def test_padding_at_the_end_cannot_reach_a_word(num_units: int) -> None:
    layer = LSTM(4, num_units).double()
    words = torch.randn(2, 3, 4, dtype=torch.float64)
    padded = torch.cat([words, torch.full((2, 5, 4), 1e3, dtype=torch.float64)], dim=1).requires_grad_()
    y = layer(padded)[:, :3]
    assert_close(y, layer(words), rtol=1e-9, atol=1e-9)
    (grad,) = torch.autograd.grad(y.square().sum(), padded)
    assert grad[:, 3:].eq(0).all()
    assert grad[:, :3].ne(0).all()


def test_every_sentence_starts_from_zero() -> None:
    layer = LSTM(4, 4)
    x = torch.randn(3, 5, 4)
    layer(x)  # leaves nothing behind
    assert_close(layer(x[1:2]), layer(x)[1:2])


def test_units_cannot_be_fewer_than_outputs() -> None:
    with pytest.raises(ValueError, match=r"num_units=3.*d_model=4"):
        LSTM(4, 3)


def test_a_projection_of_as_many_units_is_one_that_recurs() -> None:
    """h from gates W·r with r = P·h, as Sak et al. write it, against gates (W·P)·h and a projection afterwards."""
    layer = LSTM(3, 3, project=True).double()
    recurrence, projection = torch.randn(12, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.lstm.get_parameter("weight_hh_l0").copy_(recurrence @ projection)
        layer.projection.get_parameter("weight").copy_(projection)
    weights = dict(layer.lstm.named_parameters())
    x = torch.randn(4, 3, dtype=torch.float64)
    output = cell = x.new_zeros(3)
    expected = []
    for word in x:
        gates = weights["weight_ih_l0"] @ word + weights["bias_ih_l0"] + recurrence @ output + weights["bias_hh_l0"]
        i, f, g, o = gates.split(3)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        output = projection @ (torch.sigmoid(o) * torch.tanh(cell))
        expected.append(output)
    assert_close(layer(x.unsqueeze(0)).squeeze(0), torch.stack(expected), rtol=1e-9, atol=1e-9)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("num_units", [16, 24])
def test_gradients_in_bfloat16_of_a_small_loss_are_those_in_float32(num_units: int, device: str) -> None:
    """A mean over 300,000 words. The smallest number of float16 is 6e-8; of bfloat16 it is that of float32."""
    layer, x = LSTM(16, num_units).to(device), torch.randn(32, 26, 16, device=device)
    grads = []
    for enabled in (False, True):
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            y = layer(x)
        if enabled and device == "cpu":
            assert y.dtype == torch.bfloat16
        loss = y.float().square().sum() / 3e5
        grads.append(torch.autograd.grad(loss, list(layer.parameters())))
    for exact, grad in zip(*grads, strict=True):
        assert grad.dtype == torch.float32
        assert (grad - exact).norm() <= 0.02 * exact.norm()


def test_autocast_is_not_left_to_choose_the_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it would choose float16."""
    compute, seen = torch.lstm, []

    def watched(x: Tensor, state: list[Tensor], weights: list[Tensor], *rest: object) -> tuple[Tensor, Tensor, Tensor]:
        seen.append((torch.is_autocast_enabled("cpu"), {tensor.dtype for tensor in (x, *state, *weights)}))
        return compute(x, state, weights, *rest)  # type: ignore[call-overload]

    layer, x = LSTM(4, 7), torch.randn(2, 3, 4)
    lstm._has(torch.bfloat16, "cpu", True)
    monkeypatch.setattr(torch, "lstm", watched)
    with torch.autocast("cpu", torch.bfloat16):
        y, (first, state) = layer(x), layer.step(x[:, 0], layer.start(2))
        second, _ = layer.step(x[:, 1], state)
    assert seen == [(False, {torch.bfloat16})] * 3
    assert_close(torch.stack([first, second], dim=1), y[:, :2], rtol=0.02, atol=0.02)


@pytest.fixture
def no_lstm_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    compute = torch.lstm

    def refuse(x: Tensor, *rest: object) -> tuple[Tensor, Tensor, Tensor]:
        if x.dtype is torch.bfloat16:
            raise RuntimeError("no RNN in this dtype\nand further lines")
        return compute(x, *rest)  # type: ignore[call-overload]

    lstm._has.cache_clear()
    monkeypatch.setattr(torch, "lstm", refuse)
    yield
    lstm._has.cache_clear()


@pytest.mark.usefixtures("no_lstm_in_bfloat16")
@pytest.mark.parametrize("num_units", [4, 7])
def test_where_a_build_has_none_in_bfloat16_float32_is_used_and_one_message_says_so(num_units: int) -> None:
    layer, x = LSTM(4, num_units), torch.randn(2, 3, 4)
    drawn = torch.get_rng_state()
    message = "LSTMs are computed in float32: cpu here has none in less (no RNN in this dtype)"
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(UserWarning, match="float32") as said:
        y = [layer(x.bfloat16()) for _ in range(2)]
    assert [str(each.message) for each in said if "oneDNN" not in str(each.message)] == [message]
    assert_close(y[0], layer(x.bfloat16().float()))
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize("projected", [False, True])
def test_an_evaluation_finds_out_as_well(projected: bool) -> None:
    lstm._has.cache_clear()
    with torch.inference_mode():
        assert lstm._has(torch.bfloat16, "cpu", projected)
