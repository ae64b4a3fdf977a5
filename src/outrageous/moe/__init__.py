"""The sparsely-gated mixture-of-experts layer (Shazeer et al., 2017: §2-4, appendices A, B and F), usable alone.

Axes, in every module of this package:
    T  tokens in the batch            D  d_model
    N  experts                        H  d_hidden of an expert
    k  experts used per token         S  assignments of a token to an expert (k·T under top-k)
    A  groups of a hierarchy          B  experts in a group, N = A·B

    gate(x [T, D]) -> Routing                         who goes where, with which weight
    experts(rows [S, D], Routing) -> rows, MoEReport  what each expert makes of its rows
    MoE(gate, experts)(x) -> (y, MoEReport)           y = Σ_i G(x)_i · E_i(x)
    balancing_loss(report, …), utilisation(report)    what whoever trains computes from the report
"""

from outrageous.moe.balance import balancing_loss, cv_squared, utilisation
from outrageous.moe.balanced_gate import StrictlyBalancedGate, StrictlyBalancedGates
from outrageous.moe.experts import FeedForwardExperts
from outrageous.moe.gates import NoisyTopKGate, NoisyTopKGates, SoftmaxGate
from outrageous.moe.hierarchical import Mixtures
from outrageous.moe.layer import MoE
from outrageous.moe.routing import MoEReport, Routing

__all__ = [
    "FeedForwardExperts",
    "Mixtures",
    "MoE",
    "MoEReport",
    "NoisyTopKGate",
    "NoisyTopKGates",
    "Routing",
    "SoftmaxGate",
    "StrictlyBalancedGate",
    "StrictlyBalancedGates",
    "balancing_loss",
    "cv_squared",
    "utilisation",
]
