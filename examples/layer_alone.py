"""The mixture-of-experts layer in a small PyTorch model of one's own, trained on synthetic data: the loss falls.

.venv/bin/python examples/layer_alone.py
"""

import torch
from torch import Tensor, nn

from outrageous.moe import FeedForwardExperts, MoE, MoEReport, NoisyTopKGate, balancing_loss, utilisation


class Model(nn.Module):
    def __init__(self, d_model: int = 32, num_experts: int = 8) -> None:
        super().__init__()
        self.inputs = nn.Linear(2, d_model)
        self.moe = MoE(NoisyTopKGate(d_model, num_experts, k=2), FeedForwardExperts(num_experts, d_model, d_hidden=64))
        self.outputs = nn.Linear(d_model, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, MoEReport]:
        hidden = self.inputs(x).tanh()
        mixed, report = self.moe(hidden)
        return self.outputs(hidden + mixed), report


def main() -> None:
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(301):
        x = 4 * torch.rand(256, 2) - 2
        target = torch.sin(3 * x[:, :1]) * torch.sign(x[:, 1:])  # another function on either side of a line
        y, report = model(x)
        loss = (y - target).square().mean()
        optimizer.zero_grad()
        (loss + balancing_loss(report, w_importance=0.01, w_load=0.01)).backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:3}  loss {loss.item():.4f}  CV(load) {utilisation(report)['cv_load'].item():.2f}")


if __name__ == "__main__":
    main()
