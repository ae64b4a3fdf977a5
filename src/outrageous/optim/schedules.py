"""Learning-rate schedules, as factors on the optimizer's learning rate."""

from collections.abc import Callable


def warmup_then_inverse_sqrt(warmup_steps: int) -> Callable[[int], float]:
    """Linear up to 1 at step warmup_steps, then √(warmup_steps / step) (appendix C). For `LambdaLR`: counts from 0.

    Raises ValueError if warmup_steps is not positive.
    """
    if warmup_steps < 1:
        raise ValueError(f"warmup_steps={warmup_steps}: must be at least 1")

    def factor(steps_done: int) -> float:
        step = steps_done + 1
        return min(step / warmup_steps, (warmup_steps / step) ** 0.5)

    return factor
