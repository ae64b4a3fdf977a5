"""Balancing losses (§4, appendix A) and figures of how evenly the experts are used, from a `MoEReport`."""

from torch import Tensor

from outrageous.moe.routing import MoEReport


def cv_squared(x: Tensor) -> Tensor:
    """CV(x)²: population variance over squared mean; x [N] -> scalar. Zero for N = 1 and for an empty batch."""
    mean_squared = x.mean().square()
    return x.var(unbiased=False) / mean_squared.where(mean_squared > 0, 1.0)


def balancing_loss(report: MoEReport, w_importance: float, w_load: float) -> Tensor:
    """L_importance + L_load = w_importance · CV(Importance)² + w_load · CV(Load)² (Eq. 7 and 11); a scalar."""
    return w_importance * cv_squared(report.importance) + w_load * cv_squared(report.load)


def utilisation(report: MoEReport) -> dict[str, Tensor]:
    """The columns of table 6 (scalars, without gradient): CV(Importance), CV(Load), max(Load)/mean(Load); all zero for
    an empty batch, and where no token has an expert."""
    importance, load = report.importance.detach(), report.load.detach()
    mean_load = load.mean()
    return {
        "cv_importance": cv_squared(importance).sqrt(),
        "cv_load": cv_squared(load).sqrt(),
        "max_over_mean_load": load.max() / mean_load.where(mean_load > 0, 1.0),
    }
