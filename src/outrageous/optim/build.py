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
    names. The experts' learning rate is that of the rest, or their own. A model without experts is trained by Adam."""
    experts = [
        weight
        for module in model.modules()
        if isinstance(module, FeedForwardExperts) and _are_apart(config)
        for weight in module.parameters()
    ]
    apart = set(experts)
    adam = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter not in apart],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )
    if not experts:
        return adam
    rate = config.learning_rate if config.experts_learning_rate is None else config.experts_learning_rate
    if config.experts is ExpertOptimizer.adam:
        adam.add_param_group({"params": experts, "lr": rate})
        return adam
    return CombinedOptimizer(adam, FACTORED[config.experts](experts, rate, config.beta2, config.epsilon))


def _are_apart(config: OptimizerConfig) -> bool:
    return config.experts is not ExpertOptimizer.adam or config.experts_learning_rate is not None
