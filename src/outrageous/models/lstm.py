"""The LSTM of the paper's models."""

import functools
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from outrageous.moe.grouped import is_autocast, without_autocast


@dataclass(frozen=True)
class LSTMState:
    """What recurs of R sentences between two steps.

    Attributes:
        output: [R, D], or [R, H] of H units where these are not projected before they recur.
        cell: [R, H].
    """

    output: Tensor
    cell: Tensor

    def select(self, rows: Tensor) -> "LSTMState":
        """The states of these sentences, any number of times each; rows [S] int64."""
        return LSTMState(self.output[rows], self.cell[rows])


class LSTM(nn.Module):
    """One LSTM layer D → D, projected where it has other than D units; the projection is also what recurs
    (Sak et al., 2014). Every sentence starts from a state of zeros.

    A projection D → D, of which PyTorch's LSTM knows nothing, follows upon one that does not recur. That is no other
    model: a projection P that recurs makes the recurrence W·P, and any such product is a matrix the LSTM can learn.

    The forget gates' biases start at 1, as in Jozefowicz et al. (2016); the paper does not name its initialisation.
    """

    def __init__(self, d_model: int, num_units: int, project: bool = False, d_input: int | None = None) -> None:
        """
        Args:
            project: project where there are D units, too.
            d_input: width of the input; None for D.

        Raises:
            ValueError: num_units < d_model. A projection cannot be wider than what it projects.
        """
        super().__init__()
        if num_units < d_model:
            raise ValueError(f"num_units={num_units}: an LSTM with d_model={d_model} outputs needs at least that many")
        self.d_model, self.num_units = d_model, num_units
        projection = d_model if num_units > d_model else 0
        self.lstm = nn.LSTM(d_input or d_model, num_units, batch_first=True, proj_size=projection)
        square = project and num_units == d_model
        self.projection = nn.Linear(d_model, d_model, bias=False) if square else nn.Identity()
        with torch.no_grad():  # gates lie in the order input, forget, cell, output
            forget = slice(num_units, 2 * num_units)
            self.lstm.get_parameter("bias_ih_l0")[forget] = 1.0  # PyTorch adds two biases
            self.lstm.get_parameter("bias_hh_l0")[forget] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """x [B, L, D] -> [B, L, D]. Padding must stand at the end of a sentence, where it cannot reach any word."""
        out: Tensor = self.projection(self._run(x)[0])
        return out

    def _run(self, x: Tensor, *state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Without the projection that does not recur. Under autocast in its dtype, where this build of PyTorch can."""
        if not is_autocast(x):
            out, after = self.lstm(x, state or None)
            return out, *after
        dtype = torch.get_autocast_dtype(x.device.type)
        with without_autocast(x):
            if not _has(dtype, x.device.type, self.lstm.proj_size > 0):
                dtype = torch.float32
            return _in_dtype(dtype, self.lstm, x, *state)

    def start(self, num_rows: int) -> LSTMState:
        """The state of zeros from which every sentence starts, of R sentences."""
        like = self.lstm.get_parameter("weight_hh_l0")
        return LSTMState(like.new_zeros(num_rows, like.shape[1]), like.new_zeros(num_rows, self.num_units))

    def step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """One word of each of R sentences: x [R, D] -> [R, D], and the state after it."""
        out, output, cell = self._run(x.unsqueeze(1), state.output.unsqueeze(0), state.cell.unsqueeze(0))
        return self.projection(out.squeeze(1)), LSTMState(output.squeeze(0), cell.squeeze(0))


def _in_dtype(dtype: torch.dtype, lstm: nn.LSTM, x: Tensor, *state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As lstm(x, state), one layer with its batch first, computed in another dtype; gradients come in the tensors' own.

    Autocast itself has cuDNN compute in float16 whatever its dtype is, and there gradients of a mean over some hundred
    thousand words are too small to be told from zero.
    """
    weights = [weight.to(dtype) for weight in lstm.parameters()]
    if not state:
        state = x.new_zeros(1, len(x), weights[1].shape[1]), x.new_zeros(1, len(x), lstm.hidden_size)
    start = [each.to(dtype) for each in state]
    return torch.lstm(x.to(dtype), start, weights, True, 1, 0.0, lstm.training, False, True)


@functools.cache
def _has(dtype: torch.dtype, device: str, projected: bool) -> bool:
    """Whether this build of PyTorch has LSTMs in it, tried on a small one. Says on stderr, once, if it has none."""
    try:  # forward and backward, also where an evaluation asks first
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            lstm = nn.LSTM(8, 16, batch_first=True, proj_size=8 if projected else 0).to(device)
            out = _in_dtype(dtype, lstm, torch.zeros(1, 1, 8, device=device))[0]
            out.sum().backward()
        # Where cuDNN does not take it, PyTorch goes word by word by itself, which is far slower than float32 in cuDNN.
        if device == "cuda" and "Rnn" not in str(out.grad_fn):
            raise RuntimeError(f"this cuDNN, {torch.backends.cudnn.version()}, does not take {dtype}")
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        warnings.warn(f"LSTMs are computed in float32: {device} here has none in less ({reason})", stacklevel=2)
        return False
    return True
