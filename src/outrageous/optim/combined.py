"""Several optimizers in the place of one."""

from collections.abc import Callable
from typing import Any

import torch


class CombinedOptimizer(torch.optim.Optimizer):
    """Optimizers of different parameters as one: one list of groups, which a schedule may change, one state, and a
    `state_dict` of the ordinary form."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        """Raises ValueError if two of them have the same parameter."""
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self._share()

    def _share(self) -> None:
        """Makes groups and state of the parts those of the whole: the same objects, not copies."""
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """A step of each in turn. Returns what the closure returns."""
        loss = closure() if closure else None
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()
