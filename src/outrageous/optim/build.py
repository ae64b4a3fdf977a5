"""The optimizer of a model, as the settings have it."""

import torch
from torch import nn

from outrageous.config import ExpertOptimizer, OptimizerConfig
from outrageous.moe import FeedForwardExperts
from outrageous.optim.combined import CombinedOptimizer
from outrageous.optim.factored_adam import FactoredAdam
from outrageous.optim.gradient_free import GradientFreeFactoredAdam

FACTORED = {
    ExpertOptimizer.factored_adam: FactoredAdam,
    ExpertOptimizer.gradient_free: GradientFreeFactoredAdam,
}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam for all parameters, or for all but the experts' weights, which then have the optimizer that `config.experts`
    names, at the same learning rate. A model without experts is trained by Adam in either case."""
    experts = {
        weight
        for module in model.modules()
        if isinstance(module, FeedForwardExperts) and config.experts is not ExpertOptimizer.adam
        for weight in module.parameters()
    }
    adam = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter not in experts],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )
    if not experts:
        return adam
    factored = FACTORED[config.experts]
    ours = [parameter for parameter in model.parameters() if parameter in experts]  # in an order that does not change
    return CombinedOptimizer(adam, factored(ours, config.learning_rate, config.beta2, config.epsilon))
