"""The mixture-of-experts layer in a small PyTorch model of one's own, trained on synthetic data: the loss falls.

.venv/bin/python examples/layer_alone.py                      flat, noisy top-k gating
.venv/bin/python examples/layer_alone.py hierarchical         groups of experts, each with a gate of its own
.venv/bin/python examples/layer_alone.py strictly_balanced    every expert gets equally many tokens in training
"""

import sys

import torch
from torch import Tensor, nn

from outrageous.moe import (
    FeedForwardExperts,
    Mixtures,
    MoE,
    MoEReport,
    NoisyTopKGate,
    NoisyTopKGates,
    StrictlyBalancedGate,
    balancing_loss,
    utilisation,
)

D_MODEL = 32


def build_layer(kind: str) -> MoE:
    """Eight experts, of which each token uses two, in strictly balanced gating on average."""
    experts = FeedForwardExperts(8, D_MODEL, d_hidden=64)
    if kind == "hierarchical":  # two of four groups, and in each one of its two experts
        return MoE(NoisyTopKGate(D_MODEL, 4, k=2), Mixtures(NoisyTopKGates(4, D_MODEL, 2, k=1), experts))
    gate = StrictlyBalancedGate if kind == "strictly_balanced" else NoisyTopKGate
    return MoE(gate(D_MODEL, 8, k=2), experts)


class Model(nn.Module):
    def __init__(self, moe: MoE) -> None:
        super().__init__()
        self.inputs, self.moe, self.outputs = nn.Linear(2, D_MODEL), moe, nn.Linear(D_MODEL, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, MoEReport]:
        hidden = self.inputs(x).tanh()
        mixed, report = self.moe(hidden)
        return self.outputs(hidden + mixed), report


def examples(number: int) -> tuple[Tensor, Tensor]:
    """x [number, 2] and the targets [number, 1]: another function on either side of a line."""
    x = 4 * torch.rand(number, 2) - 2
    return x, torch.sin(3 * x[:, :1]) * torch.sign(x[:, 1:])


def main(kind: str) -> None:
    torch.manual_seed(0)
    model = Model(build_layer(kind))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(301):
        x, target = examples(256)
        y, report = model(x)
        loss = (y - target).square().mean()
        optimizer.zero_grad()
        # The last term trains the thresholds of strictly balanced gates, and is zero for others.
        (loss + balancing_loss(report, w_importance=0.01, w_load=0.01) + report.threshold_loss).backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:3}  loss {loss.item():.4f}  CV(load) {utilisation(report)['cv_load'].item():.2f}")

    x, target = examples(2048)
    with torch.no_grad():
        y, report = model.eval()(x)  # without noise, or by thresholds
    experts_per_token = report.tokens_per_expert.sum().item() / len(x)
    print(f"evaluation  loss {(y - target).square().mean().item():.4f}  experts per token {experts_per_token:.2f}")


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "flat")
