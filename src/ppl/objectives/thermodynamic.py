"""The thermodynamic variational objective: a Riemann sum of tilted means of the log weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ppl.measure import Measure
from ppl.objectives.particles import bounded, log_weights
from ppl.objectives.supports import check_supports
from ppl.weights import at_least


def thermodynamic(
    particles: int, betas: Sequence[float] = (0.0, 1.0), upper: bool = False
) -> Callable[[Measure, Measure], jax.Array]:
    """The thermodynamic variational objective (TVO), a Riemann sum over guides that are tilted to the target.

    With `w = p / q` and tilted guides `q_b = q w^b / Z_b`,

        log Z = integral over b from 0 to 1 of E_{q_b}[log w],    an integrand that grows with b,

    so that its left Riemann sum over the points `betas` is a lower bound and its right one an upper bound.
    The mean at each point is estimated from one set of particles `x_i ~ q` by their normalized weights,

        sum_j (b_{j+1} - b_j) sum_i s_i(b_j) log w_i,    s_i(b) = w_i^b / sum_k w_k^b.

    The left sum is to be maximized; over `(0, 1)` it is `ppl.elbo`, averaged over particles. The right sum
    is to be minimized.

    For finite `n` the estimate is biased for the exact sums, by `O(1/n)`. Draw by draw the inner sum is the
    derivative of the convex function `log (1/n) sum_i w_i^b` of `b`, so the left sum lies below the value of
    `ppl.iwelbo(n)` and the right one above it. Hence the expected left sum is a lower bound of `log Z` for
    every `n`; the expected right sum bounds `iwelbo(n)` from above, and `log Z` only for `n` to infinity
    (for one particle both sums are the ELBO).

    The derivative is unbiased for the objective as written, by the estimators of the guide's choices. The
    paper's estimator, a covariance under normalized weights, is one of the limit instead, and biased for
    finite `n`.

    Args:
        particles: `n`.
        betas: the ends of the intervals, Python numbers that increase from zero to one. A good first step is
            small, where the integrand is steep.
        upper: the right sum in place of the left.

    Returns:
        `objective(target, guide)`, one draw, a scalar.

    Raises:
        ValueError: fewer than one particle, two for `upper`; points that do not increase from zero to one.
        SupportMismatch: the guide has values that the target never has.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> @ppl.gen
        ... def guide(sd):
        ...     ppl.normal(0.5, sd) @ "x"
        >>> target = model().condition({"y": 1.0})
        >>> def bound(betas, upper=False):
        ...     tvo = ppl.objectives.thermodynamic(100, betas, upper)
        ...     objective = ppl.expectation(lambda sd: tvo(target, guide(sd)))
        ...     value = objective.estimate(jax.random.key(0), 1.2, num_samples=500)
        ...     return f"{value:.1f}"
        >>> bound((0, 1)), bound((0, 0.1, 0.3, 1)), bound((0, 0.1, 0.3, 1), upper=True)  # log Z is -1.52
        ('-1.9', '-1.7', '-1.4')

    Reference: Masrani, Le, Wood, "The thermodynamic variational objective", 2019.
    """
    at_least(2 if upper else 1, particles, "thermodynamic")
    points = np.asarray(betas, float)
    if points.ndim != 1 or len(points) < 2 or (points[0], points[-1]) != (0, 1) or min(np.diff(points)) <= 0:
        raise ValueError(f"the betas of thermodynamic increase from zero to one, got {betas!r}")
    at = [float(beta) for beta in (points[1:] if upper else points[:-1])]

    def objective(target: Measure, guide: Measure) -> jax.Array:
        weights = log_weights(target, guide, particles)
        check_supports(target, guide, "thermodynamic", zero_weights=upper)
        return jnp.dot(np.diff(points), jnp.stack([_tilted_mean(weights, beta) for beta in at]))

    return objective


def _tilted_mean(log_weights: jax.Array, beta: float) -> jax.Array:
    if beta == 0:
        return jnp.mean(log_weights)
    finite = bounded(log_weights)
    return jnp.sum(jax.nn.softmax(beta * finite) * finite)
