"""Pareto-smoothed importance sampling: how heavy the tail of importance weights is, and smoother weights.

The fit of a generalized Pareto distribution is written out here, from the papers: thirty lines of NumPy
against a dependency on ArviZ. Its tests hold it to ArviZ's numbers and to tails in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

# With fewer draws a tail holds fewer than 20 of them, and an estimate of its shape says nothing.
FEWEST = 100
# Weights further below the largest than this count as none: their sum cannot be seen beside it.
_NEGLIGIBLE = -600.0


@dataclass(frozen=True)
class Weights:
    r"""Importance weights, with their upper tail smoothed. Made by `smoothed`.

    Attributes:
        khat: the estimated shape `k` of the tail: moments of the weights exist up to order `1/k`. `-inf`
            where the weights do not vary; `nan` where there is no tail to fit.
        threshold: `min(1 - 1/log10(S), 0.7)` for `S` draws. At most this, estimates from the weights can be
            trusted.
        status: `fitted`, or why nothing was: `constant weights`, `tied weights` (the largest are equal, as
            for a guide with few values), `one draw has all the weight`, `no weight`, `too few draws`,
            `invalid weights`.
        log_weights: normalized to sum to one, shape `(S,)`; those of the tail smoothed. Raw where nothing was
            fitted.
        effective_draws: one over the sum of the squared weights.
        log_mean: logarithm of the mean of the weights (of the evidence, if the target is unnormalized).
        zeros: fraction of the weights that are zero: draws outside the target's support.
        invalid: fraction of the weights that are not numbers, or infinite.
        exceedances: the tail above its threshold, relative to the largest weight, ascending; may be empty.
        scale: the fitted scale of the exceedances.
    """

    khat: float
    threshold: float
    status: str
    log_weights: np.ndarray
    effective_draws: float
    log_mean: float
    zeros: float
    invalid: float
    exceedances: np.ndarray
    scale: float

    @property
    def reliable(self) -> bool | None:
        """Whether estimates from these weights can be trusted; `None` where they do not tell."""
        if self.status in ("invalid weights", "no weight", "one draw has all the weight"):
            return False
        if self.status in ("too few draws", "tied weights"):
            return None
        return self.khat <= self.threshold


def smoothed(log_weights: Any, *, rounding: float = 0.0) -> Weights:
    r"""The tail shape `k` of importance weights, and the weights with their largest ones smoothed.

    The largest `M = floor(min(S/5, 3 sqrt(S)))` of `S` weights, less the next one, are fitted with a
    generalized Pareto distribution of density `(1 + k x / s)^(-1/k - 1) / s`, by Zhang's and Stephens's
    estimator with the prior of ten observations at `k = 1/2`. They are then replaced by its quantiles at `(i
    - 1/2) / M`, none above the largest of them. Weights of zero are weights like others: draws that the
      target rules out.

    Args:
        log_weights: logarithms of the weights of independent draws, shape `(S,)`.
        rounding: how far two of them may differ by rounding alone.

    Raises:
        ValueError: not a vector.

    Example:
        >>> import numpy as np
        >>> S, k = 4000, 0.5
        >>> weights = smoothed(-k * np.log((np.arange(S) + 0.5) / S))  # a Pareto tail of shape 1/2
        >>> round(weights.khat, 1), round(weights.threshold, 2), weights.reliable
        (0.5, 0.7, True)
        >>> smoothed(np.zeros(1000)).status
        'constant weights'

    References: Vehtari, Simpson, Gelman, Yao, Gabry, "Pareto smoothed importance sampling", 2024. Zhang,
        Stephens,
    "A new and efficient estimation method for the generalized Pareto distribution", 2009.
    """
    logs = np.asarray(log_weights, np.float64)
    if logs.ndim != 1 or not logs.size:
        raise ValueError(f"log weights are a vector, one of each draw; these have shape {logs.shape}.")
    bad = np.isnan(logs) | (logs == np.inf)
    if bad.any():
        return _raw(logs, "invalid weights", math.nan, float(bad.mean()))
    if np.max(logs) == -np.inf:
        return _raw(logs, "no weight", math.nan)
    spread = np.ptp(logs[np.isfinite(logs)])
    if spread <= rounding and np.isfinite(logs).all():
        return _raw(logs, "constant weights", -math.inf)
    if logs.size < FEWEST:
        return _raw(logs, "too few draws", math.nan)
    return _fitted(logs, rounding)


def _fitted(logs: np.ndarray, rounding: float) -> Weights:
    order = np.argsort(logs, kind="stable")
    size = math.floor(min(logs.size / 5, 3 * math.sqrt(logs.size)))
    top = order[-size:]
    largest, cut = logs[order[-1]], max(logs[order[-size - 1]], logs[order[-1]] + _NEGLIGIBLE)
    if largest - cut <= rounding:
        return _raw(logs, "tied weights", math.nan)
    top = top[logs[top] > cut]
    # exp(a) - exp(b) of nearby numbers, without the cancellation.
    exceedances = np.exp(cut - largest) * np.expm1(logs[top] - cut)
    if len(top) < 5:
        return _raw(logs, "one draw has all the weight", math.inf)
    khat, scale = generalized_pareto(exceedances)
    at = (np.arange(len(top)) + 0.5) / len(top)
    quantiles = scale * (np.expm1(-khat * np.log1p(-at)) / khat if khat else -np.log1p(-at))
    replaced = logs.copy()
    replaced[top] = largest + np.minimum(np.log(np.exp(cut - largest) + quantiles), 0.0)
    return _of(replaced, logs, "fitted", khat, exceedances=exceedances, scale=scale)


def generalized_pareto(exceedances: Any) -> tuple[float, float]:
    r"""Shape `k` and scale `s` of a generalized Pareto distribution, for ascending positive exceedances.

    The posterior mean of `b = -k / s` on a grid, under the profile likelihood and a prior around the
    quartile; `k` is the mean of `log(1 - b x)`, drawn towards one half with the weight of ten observations.

    Example:
        >>> import numpy as np
        >>> at = (np.arange(1000) + 0.5) / 1000
        >>> k, s = generalized_pareto(2.0 * ((1 - at) ** -0.3 - 1) / 0.3)
        >>> round(k, 1), round(s, 1)
        (0.3, 2.0)

    References: Zhang, Stephens, 2009, section 4; Vehtari et al., 2024, appendix G, for the prior on `k`.
    """
    x = np.asarray(exceedances, np.float64)
    count, grid = len(x), 30 + math.isqrt(len(x))
    quartile = x[int(count / 4 + 0.5) - 1]
    inverse = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile)
    shape = np.log1p(-inverse[:, None] * x).mean(1)
    likelihood = count * (np.log(-inverse / shape) - shape - 1)
    weights = np.exp(likelihood - likelihood.max())
    mean = float(inverse @ weights / weights.sum())
    shape = float(np.log1p(-mean * x).mean())
    return (count * shape + 10 * 0.5) / (count + 10), -shape / mean


def _raw(logs: np.ndarray, status: str, khat: float, invalid: float = 0.0) -> Weights:
    return _of(logs, logs, status, khat, invalid)


def _of(
    logs: np.ndarray, raw: np.ndarray, status: str, khat: float, invalid: float = 0.0,
    exceedances: np.ndarray | None = None, scale: float = math.nan,
) -> Weights:  # fmt: skip
    threshold = min(1 - 1 / math.log10(max(len(raw), 2)), 0.7)
    zeros = float((raw == -np.inf).mean())
    if invalid or zeros == 1:
        total, normalized, effective = (math.nan if invalid else -math.inf), logs, 0.0
    else:
        total = float(np.logaddexp.reduce(logs))
        normalized = logs - total
        effective = float(np.exp(-np.logaddexp.reduce(2 * normalized)))
    mean = total - math.log(len(raw))
    tail = np.empty(0) if exceedances is None else exceedances
    return Weights(khat, threshold, status, normalized, effective, mean, zeros, invalid, tail, scale)
