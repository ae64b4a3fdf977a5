"""With `trainer=gpu`, what is computed in bfloat16, and what is not. Here on a CPU."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from outrageous.commands.compose import run_config
from outrageous.config import RunConfig
from outrageous.data.batching import Batch
from outrageous.training.language_module import LanguageModule
from outrageous.training.run import run

# Of gates, noise, loads, sampled and full softmax, losses, clipping and optimizer.
IN_FLOAT32 = (
    *("softplus", "erf_", "topk", "_softmax", "_log_softmax", "nll_loss_forward", "_softmax_backward_data", "var"),
    *("_foreach_norm", "_fused_adam_"),
)


class Dtypes(TorchDispatchMode):
    """Of the floating-point inputs of each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, set[torch.dtype]] = defaultdict(set)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for argument in args:
            for tensor in argument if isinstance(argument, list | tuple) else [argument]:
                if isinstance(tensor, Tensor) and tensor.is_floating_point():
                    self.of[func.overloadpacket.__name__].add(tensor.dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("experiment", ["lm/moe_256", "lm/moe_256_h"])
def test_what_is_computed_in_float32(experiment: str) -> None:
    config = run_config([f"experiment={experiment}", "scale=smoke", "trainer=gpu"])
    assert (config.trainer.accelerator, config.trainer.precision) == ("cuda", "bf16-mixed")
    module = LanguageModule(config, 500, origin={})
    optimizer = module.configure_optimizers()["optimizer"]
    words = torch.randint(500, (2, 8, 6))
    batch = Batch(words[0], words[1], torch.ones(8, 6, dtype=torch.bool), torch.arange(48))
    with Dtypes() as dtypes:
        with torch.autocast("cpu", torch.bfloat16):  # as Lightning does with this precision
            outputs = module.training_step(batch, 0)
            nll = module.model.softmax.negative_log_likelihood(module.hidden(batch)[0], batch.targets[batch.mask])
        outputs["loss"].backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
    for name in IN_FLOAT32:
        assert dtypes.of[name] == {torch.float32}, name
    # Experts, the sampled logits; and gates, the logits of the whole vocabulary.
    assert dtypes.of["mm"] >= {torch.bfloat16, torch.float32}
    assert outputs["loss"].dtype == nll.dtype == torch.float32
    of_weights = [tensor for weight in module.parameters() for tensor in (weight, weight.grad)]
    of_optimizer = [each for state in optimizer.state.values() for each in state.values()]
    assert {tensor.dtype for tensor in of_weights + of_optimizer if tensor is not None} == {torch.float32}


def test_a_run_in_bfloat16_ends_where_one_in_float32_does(settings: Callable[..., RunConfig], tmp_path: Path) -> None:
    perplexities = [
        run(settings(tmp_path, "trainer.max_steps=8", *more), row=None)[0].metrics["dev_perplexity"]
        for more in ([], ["trainer=gpu"])
    ]
    assert perplexities[0] != perplexities[1]
    assert perplexities[1] == pytest.approx(perplexities[0], rel=0.02)
