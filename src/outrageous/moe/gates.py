"""Gates: from tokens [T, D] to a `Routing` among N experts (§2.1).

Gate matrices start at zero, so that the load starts out even (appendix A). Logits, noise and softmax are computed in
float32 at least, whatever the dtype of the tokens: bfloat16 cannot tell neighbouring logits apart.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outrageous.moe.routing import Routing, route

# Softplus underflows to 0 for logits below about -100, and 0/0 is NaN. A standard deviation this small changes no
# probability, since differences between float32 logits are many orders of magnitude larger or exactly zero.
SMALLEST_NOISE = 1e-10


class SoftmaxGate(nn.Module):
    """Eq. 2: `G(x) = softmax(x·W_g)`, dense: every token uses every expert.

    With one expert the gate is 1 for every token: an expert that is always on.
    """

    def __init__(self, d_model: int, num_experts: int) -> None:
        """Raises ValueError if a size is not positive."""
        super().__init__()
        _check_sizes(d_model=d_model, num_experts=num_experts)
        self.num_experts = self.k = num_experts
        self.w_gate = nn.Parameter(torch.zeros(d_model, num_experts))

    def forward(self, x: Tensor) -> Routing:
        """x [T, D] -> Routing with S = N·T. Every expert receives every token, so load = T."""
        gates = _logits(x, self.w_gate).softmax(dim=1)  # Eq. 2, [T, N]
        num_tokens = x.shape[0]
        expert = torch.arange(self.num_experts, device=x.device).expand(num_tokens, -1)
        return route(expert, gates, load=_full_load(gates))

    def extra_repr(self) -> str:
        return f"num_experts={self.num_experts}"


class NoisyTopKGate(nn.Module):
    """Eq. 3-5: the k largest of the noisy logits, and a softmax over these alone.

    Noise is drawn in training mode only. In evaluation the choice is made on the clean logits; the load is then the
    same Eq. 9 with the noise of every other expert at zero: how many tokens each expert would get if its own noise
    were drawn. The paper does not say what the load is without noise.
    """

    def __init__(self, d_model: int, num_experts: int, k: int) -> None:
        """Raises ValueError if a size is not positive or k is larger than num_experts."""
        super().__init__()
        _check_sizes(d_model=d_model, num_experts=num_experts, k=k)
        if k > num_experts:
            raise ValueError(f"k={k} experts per token, but there are only num_experts={num_experts}: lower k")
        self.num_experts, self.k = num_experts, k
        self.w_gate = nn.Parameter(torch.zeros(d_model, num_experts))
        self.w_noise = nn.Parameter(torch.zeros(d_model, num_experts))

    def forward(self, x: Tensor) -> Routing:
        """x [T, D] -> Routing with S = k·T."""
        clean = _logits(x, self.w_gate)  # [T, N]
        noise_std = F.softplus(_logits(x, self.w_noise)).clamp_min(SMALLEST_NOISE)
        noisy = clean + torch.randn_like(clean) * noise_std if self.training else clean  # Eq. 4

        num_kept = min(self.k + 1, self.num_experts)  # one more than k: the load's threshold
        values, experts = noisy.topk(num_kept, dim=1)  # Eq. 5
        chosen = experts[:, : self.k]
        gates = values[:, : self.k].softmax(dim=1)  # Eq. 3, [T, k]
        load = _full_load(clean) if self.k == self.num_experts else _load(clean, noise_std, values, chosen)
        return route(chosen, gates, load)

    def extra_repr(self) -> str:
        return f"num_experts={self.num_experts}, k={self.k}"


def _load(clean: Tensor, noise_std: Tensor, top_values: Tensor, chosen: Tensor) -> Tensor:
    """Eq. 8-10: Load(X)_i = Σ_x P(x, i), with P(x, i) the probability that expert i is among the top k when only its
    own noise is drawn again.

    Args:
        clean, noise_std: [T, N].
        top_values: [T, k+1] the k+1 largest noisy logits, falling.
        chosen: [T, k] the experts of the first k of these.
    """
    # kth_excluding(H(x), k, i): the k-th largest noisy logit without entry i is the (k+1)-th of all where i is itself
    # among the top k, and the k-th elsewhere. By index rather than by comparison, so that ties are exact.
    if_chosen, if_not = top_values[:, -1:], top_values[:, -2:-1]  # [T, 1]
    is_chosen = torch.zeros_like(clean, dtype=torch.bool).scatter(1, chosen, True)
    threshold = torch.where(is_chosen, if_chosen, if_not)  # [T, N]
    probability = torch.special.ndtr((clean - threshold) / noise_std)  # Eq. 9
    return probability.sum(dim=0)


def _full_load(per_token: Tensor) -> Tensor:
    """[T, N] -> [N]: with k = N no expert can fall out of the top k, so every P(x, i) is 1."""
    num_tokens, num_experts = per_token.shape
    return per_token.new_full((num_experts,), float(num_tokens))


def _logits(x: Tensor, weight: Tensor) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        return x.to(dtype) @ weight.to(dtype)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size}: must be at least 1")
