"""The optimizer of a model, as the settings have it."""

import torch
from torch import Tensor, nn

from outrageous.config import ExpertOptimizer, OptimizerConfig, TableOptimizer
from outrageous.models.sampled_softmax import VocabularySoftmax
from outrageous.moe import FeedForwardExperts
from outrageous.optim.combined import CombinedOptimizer
from outrageous.optim.factored_adam import FactoredAdam
from outrageous.optim.gradient_free import GradientFreeFactoredAdam

FACTORED = {
    ExpertOptimizer.factored_adam: FactoredAdam,
    ExpertOptimizer.gradient_free: GradientFreeFactoredAdam,
}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam for all parameters, but for the experts' weights, and a language model's tables, where these have the
    optimizers that `config.experts` and `config.tables` name. The experts' learning rate is that of the rest, or their
    own. A model without experts is trained by Adam.

    sparse_adam is `torch.optim.SparseAdam`, Adam on the rows that a batch looks up. In Adam every row moves in every
    step, by what its averages remember, and these decay. Here all else stays as it is, averages included, which are yet
    corrected for all steps so far. For a row in every batch both are the same. The momentum of a rare one waits for the
    next batch that has it, and its second moment is the average over such batches, where Adam's, over all steps, is
    smaller: rare words move less. One that comes once, late, moves by lr·(1 - β₁)/√(1 - β₂), (1 - β₁) of the way that
    Adam takes it in that step and those behind.
    """
    experts = [
        weight
        for module in model.modules()
        if isinstance(module, FeedForwardExperts) and _are_apart(config)
        for weight in module.parameters()
    ]
    tables = _tables(model, config.tables)
    apart: set[Tensor] = {*experts, *tables}
    betas, rate = (config.beta1, config.beta2), config.learning_rate
    rest = [parameter for parameter in model.parameters() if parameter not in apart]
    adam = torch.optim.Adam(rest, lr=rate, betas=betas, eps=config.epsilon, fused=True)
    others: list[torch.optim.Optimizer] = []
    if experts:
        rate_of_experts = rate if config.experts_learning_rate is None else config.experts_learning_rate
        if config.experts is ExpertOptimizer.adam:
            adam.add_param_group({"params": experts, "lr": rate_of_experts})
        else:
            others.append(FACTORED[config.experts](experts, rate_of_experts, config.beta2, config.epsilon))
    if tables and config.tables is TableOptimizer.sparse_adam:
        others.append(torch.optim.SparseAdam(tables, lr=rate, betas=betas, eps=config.epsilon))
    elif tables:
        others.append(FactoredAdam(tables, rate, config.beta2, config.epsilon))
    return CombinedOptimizer(adam, *others) if others else adam


def _are_apart(config: OptimizerConfig) -> bool:
    return config.experts is not ExpertOptimizer.adam or config.experts_learning_rate is not None


def _tables(model: nn.Module, optimizer: TableOptimizer) -> list[Tensor]:
    """The weights of embedding and softmax, unless Adam trains them; SparseAdam has their gradients made sparse."""
    if optimizer is TableOptimizer.adam:
        return []
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding | VocabularySoftmax)]
    for table in tables:
        table.sparse = optimizer is TableOptimizer.sparse_adam
    return [table.weight for table in tables]
