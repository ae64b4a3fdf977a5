"""Learning-rate schedules, as factors on the optimizer's learning rate."""

from collections.abc import Callable


def warmup_then_inverse_sqrt(warmup_steps: int, flat_until: int | None = None) -> Callable[[int], float]:
    """Linear up to 1 at step warmup_steps, flat up to step flat_until, then √(flat_until / step) (appendices C and E).
    For `LambdaLR`: counts from 0.

    Args:
        flat_until: None for warmup_steps.

    Raises:
        ValueError: warmup_steps is not positive, or flat_until before it.
    """
    if warmup_steps < 1:
        raise ValueError(f"warmup_steps={warmup_steps}: must be at least 1")
    last_flat = warmup_steps if flat_until is None else flat_until
    if last_flat < warmup_steps:
        raise ValueError(f"flat_until={flat_until}: must be at least warmup_steps={warmup_steps}")

    def factor(steps_done: int) -> float:
        step = steps_done + 1
        return min(step / warmup_steps, 1.0, (last_flat / step) ** 0.5)

    return factor
