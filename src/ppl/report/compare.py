"""Whether one gradient is better than another: variance times time, with what is not known of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ppl.report.measure import Measurement, standard_error

CONFIDENCE = 2.0
"""How many standard errors of the logarithm two costs must lie apart to count as different."""


class Comparison(NamedTuple):
    """One gradient relative to another.

    Attributes:
        variance: the ratio of their variances.
        effort: the ratio of their times, or of the numbers of their evaluations.
        error: the standard error of the logarithm of the cost.
    """

    variance: float
    effort: float
    error: float

    @property
    def cost(self) -> float:
        """The ratio of variance times effort: how much longer the one takes to be as exact as the other."""
        return self.variance * self.effort

    @property
    def is_better(self) -> bool:
        """Whether the cost is lower by more than what is not known."""
        return self.cost * math.exp(CONFIDENCE * self.error) < 1

    @property
    def is_worse(self) -> bool:
        """Whether the cost is higher by more than what is not known."""
        return not self.cost * math.exp(-CONFIDENCE * self.error) <= 1


def compare(new: Measurement, old: Measurement, *, timed: bool = True) -> Comparison:
    """One gradient relative to another that was measured beside it, by time or by number of evaluations.

    Batch by batch the two saw the same keys and the same machine, so the errors are those of the differences.
    Without variance on both sides the effort alone decides. A variance that is not finite is worse than any.
    """
    if not math.isfinite(new.variance):
        return Comparison(math.inf, 1.0, 0.0)
    variance, error = _variances(new, old)
    if not timed:
        return Comparison(variance, new.evaluations / old.evaluations, error)
    effort, slack = _times(new, old)
    return Comparison(variance, effort, math.hypot(error, slack))


def _variances(new: Measurement, old: Measurement) -> tuple[float, float]:
    """The ratio of the variances, and the standard error of its logarithm."""
    if not math.isfinite(old.variance):
        return 0.0, 0.0
    if new.variance == 0 or old.variance == 0:
        return (1.0 if new.variance == old.variance else 0.0 if old.variance else math.inf), 0.0
    ratio = new.variance / old.variance
    return ratio, standard_error(new.batches - ratio * old.batches) / new.variance


def _times(new: Measurement, old: Measurement) -> tuple[float, float]:
    """The median ratio of the times, and the standard error of its logarithm, from its median deviation."""
    logs = np.log(new.times / old.times)
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    return math.exp(middle), 1.2533 * spread / math.sqrt(len(logs))
