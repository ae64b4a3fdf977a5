"""The sparsely-gated mixture-of-experts layer (Shazeer et al., 2017, sections 2-4 and appendix A), usable alone.

Axes, in every module of this package:
    T  tokens in the batch            D  d_model
    N  experts                        H  d_hidden of an expert
    k  experts used per token         S  assignments of a token to an expert (k·T under top-k)

    gate(x [T, D]) -> Routing                      who goes where, with which weight
    experts(rows [S, D], tokens_per_expert [N])    what each expert makes of its rows
    MoE(gate, experts)(x) -> (y, MoEReport)        y = Σ_i G(x)_i · E_i(x)
    balancing_loss(report, …), utilisation(report) what whoever trains computes from the report
"""

from outrageous.moe.balance import balancing_loss, cv_squared, utilisation
from outrageous.moe.experts import FeedForwardExperts
from outrageous.moe.gates import NoisyTopKGate, SoftmaxGate
from outrageous.moe.layer import MoE, MoEReport
from outrageous.moe.routing import Routing

__all__ = [
    "FeedForwardExperts",
    "MoE",
    "MoEReport",
    "NoisyTopKGate",
    "Routing",
    "SoftmaxGate",
    "balancing_loss",
    "cv_squared",
    "utilisation",
]
