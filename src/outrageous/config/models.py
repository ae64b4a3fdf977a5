"""Settings of the models."""

from dataclasses import dataclass
from enum import Enum


class Layer(Enum):
    """What may stand between embedding and softmax."""

    lstm = "lstm"
    moe = "moe"


class GateKind(Enum):
    softmax = "softmax"
    noisy_top_k = "noisy_top_k"
    strictly_balanced = "strictly_balanced"


@dataclass
class GateConfig:
    """
    Attributes:
        kind: which gate of `outrageous.moe`; in a hierarchy that of both levels.
        k: experts per token, in a hierarchy groups per token and experts per group; null for the softmax gate, which
            uses all.
    """

    kind: GateKind
    k: int | None = None


@dataclass
class MoEConfig:
    """
    Attributes:
        num_experts: N, in all groups together.
        d_hidden: width of each hidden layer of an expert.
        num_groups: A of a hierarchy; null for a flat MoE.
        recompute: keep no hidden activations of experts for the backward pass but compute them again (appendix D).
    """

    gate: GateConfig
    num_experts: int
    d_hidden: list[int]
    num_groups: int | None = None
    recompute: bool = False

    @property
    def num_units(self) -> int:
        """What the (primary) gate chooses among, and several devices can share."""
        return self.num_groups or self.num_experts


@dataclass
class LanguageModelConfig:
    """
    Attributes:
        d_model: width of everything between the layers.
        layers: from the embedding to the softmax.
        lstm_units: units of every LSTM; projected to d_model where larger.
        project_lstm: project where there are d_model units, too.
        dropout: probability with which a value is dropped after each layer but the softmax.
        num_sampled: classes drawn for the sampled softmax.
        moe: null where no layer is an MoE.
    """

    d_model: int
    layers: list[Layer]
    lstm_units: int
    dropout: float
    num_sampled: int
    moe: MoEConfig | None = None
    project_lstm: bool = False


class AttentionKind(Enum):
    """How well a source position fits a query: by a product, which makes all pairs matrix products (appendix G), or by
    a sum as in GNMT."""

    multiplicative = "multiplicative"
    additive = "additive"


@dataclass
class TranslationModelConfig:
    """
    Attributes:
        d_model: width of everything between the layers.
        lstm_units: units of every LSTM; projected to d_model where larger.
        dropout: probability with which a value is dropped after embeddings, LSTMs and MoEs.
        moe: of the encoder's and the decoder's MoE alike; null for neither.
        bidirectional: whether the first two of the encoder's three LSTMs read the sentence side by side, one of them
            from its end, or one after the other.
    """

    d_model: int
    lstm_units: int
    dropout: float
    moe: MoEConfig | None = None
    bidirectional: bool = True
    attention: AttentionKind = AttentionKind.multiplicative
