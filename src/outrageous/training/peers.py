"""The MoE layers of other packages, as contestants of the layer benchmark. None of them is needed for anything else.

`pip install 'outrageous[bench]'` installs them; a package that is missing is left out.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

from torch import Tensor, nn

from outrageous.training.contestants import LayerSize


@dataclass(frozen=True)
class Peer:
    """A layer of another package.

    package: as it is imported.  differs: what it does otherwise than our layer.  module: of a `LayerSize`.
    """

    name: str
    package: str
    differs: str
    module: Callable[[LayerSize], nn.Module]

    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


class Nemotron(nn.Module):
    """transformers' experts of two matrices, and its router of Mixtral, through its grouped products: our network."""

    def __init__(self, size: LayerSize) -> None:
        super().__init__()
        from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter
        from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHExperts

        config = SimpleNamespace(
            n_routed_experts=size.num_experts,
            num_local_experts=size.num_experts,
            num_experts_per_tok=size.k,
            hidden_size=size.d_model,
            moe_intermediate_size=size.d_hidden,
            moe_latent_size=None,
            mlp_hidden_act="relu",
            _experts_implementation="grouped_mm",
        )
        self.router, self.experts = MixtralTopKRouter(config), NemotronHExperts(config)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        _, weights, experts = self.router(x)
        return self.experts(x, experts, weights), []


class Mixtral(nn.Module):
    """transformers' sparse block of Mixtral, through its grouped products."""

    def __init__(self, size: LayerSize) -> None:
        super().__init__()
        from transformers.models.mixtral.configuration_mixtral import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

        config = MixtralConfig(
            hidden_size=size.d_model,
            intermediate_size=max(8, 2 * size.d_hidden // 3 // 8 * 8),
            num_local_experts=size.num_experts,
            num_experts_per_tok=size.k,
            router_jitter_noise=0.0,
        )
        config._experts_implementation = "grouped_mm"
        self.block = MixtralSparseMoeBlock(config)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.block(x.unsqueeze(0)).squeeze(0), []


class MixtureOfExperts(nn.Module):
    """The layer of the package mixture-of-experts."""

    def __init__(self, size: LayerSize) -> None:
        super().__init__()
        from mixture_of_experts import MoE

        self.layer = MoE(
            size.d_model,
            num_experts=max(2, size.num_experts * 2 // size.k),
            hidden_dim=size.d_hidden * size.k // 2,
            activation=nn.ReLU,
            capacity_factor_train=2 * 1.25,  # of the tokens over the experts, and there are two for each token
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        y, loss = self.layer(x.unsqueeze(0))
        return y.squeeze(0), [loss]


PEERS = [
    Peer("transformers: NemotronHExperts, grouped_mm", "transformers", "no noise, no losses", Nemotron),
    Peer(
        "transformers: MixtralSparseMoeBlock, grouped_mm",
        "transformers",
        "gated experts of three matrices, 2/3 as wide: as many weights and multiply-adds; no noise, no losses",
        Mixtral,
    ),
    Peer(
        "mixture-of-experts: MoE",
        "mixture_of_experts",
        "always 2 experts a token: fewer and wider ones, with as many weights and multiply-adds; drops what exceeds "
        "1.25 times an expert's mean load",
        MixtureOfExperts,
    ),
]


def versions() -> dict[str, str]:
    """Of the peers' packages that are installed."""
    packages = {peer.package.replace("_", "-") for peer in PEERS if peer.is_installed()}
    return {package: importlib.metadata.version(package) for package in sorted(packages)}
