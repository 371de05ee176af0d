"""Divergences that are expected values of a function of the log ratio."""

from __future__ import annotations

from collections.abc import Callable

import jax

from ppl.measure import Measure
from ppl.objectives.supports import check_supports


def f_divergence(f: Callable[[jax.Array], jax.Array]) -> Callable[[Measure, Measure], jax.Array]:
    """An f-divergence `E_q[f(log p(x) - log q(x))]`, of a target that is normalized. To be minimized.

    `f` takes the *logarithm* `r` of the ratio `p / q`. If it is convex in the ratio and zero at `r = 0`, the
    expected value is at least zero, and zero where `q = p`. Some, with `jnp.exp(r)` the ratio:

    | divergence | `f` |
    | --- | --- |
    | `KL(q || p)` | `lambda r: -r` |
    | `KL(p || q)` | `lambda r: jnp.exp(r) * r` |
    | Jeffreys, the sum of both | `lambda r: jnp.expm1(r) * r` |
    | alpha, `a` not zero or one | `lambda r: jnp.expm1(a * r) / (a * (a - 1))` |
    | squared Hellinger | `lambda r: 1 - jnp.exp(r / 2)` |

    For an unnormalized target it is no divergence; with a convex `f` it is at least `f(log Z)`, if the guide
    has mass wherever the target has. Draws are the guide's, so mass of the target where the guide has none is
    not counted.

    Args:
        f: of a scalar, a scalar. Where the target may have a density of zero it is given minus infinity.

    Returns:
        `objective(target, guide)`, one draw, a scalar. Its derivative is unbiased.

    Raises:
        SupportMismatch: one of two choices at an address is discrete, the other has a density.

    Example:
        >>> import jax, ppl
        >>> target, guide = ppl.flip(0.3), lambda p: ppl.flip(p)
        >>> hellinger = lambda r: 1 - jax.numpy.exp(r / 2)
        >>> objective = ppl.expectation(lambda p: ppl.objectives.f_divergence(hellinger)(target, guide(p)))
        >>> float(objective.exact(0.5).round(4))  # 1 - sqrt(0.15) - sqrt(0.35)
        0.0211

    Reference: Ali, Silvey, "A general class of coefficients of divergence of one distribution from another",
    1966.
    """

    def objective(target: Measure, guide: Measure) -> jax.Array:
        trace = guide.propose()
        divergence = f(target.log_density(trace.choices) - trace.log_density)
        check_supports(target, guide, "f_divergence", zero_weights=True)
        return divergence

    return objective
