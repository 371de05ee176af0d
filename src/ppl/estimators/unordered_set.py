"""Several values drawn without replacement, in no order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp
import numpy as np

from ppl.distributions.masses import at, pick, value_at
from ppl.estimators.finite import FiniteEstimator
from ppl.estimators.protocol import Contribution, moved
from ppl.noise import Noise

MOST_SAMPLES = 10
"""How many values are drawn at most: the weights go through all their subsets."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UnorderedSet(FiniteEstimator):
    """Needs a finite support; `samples - 1` more evaluations for each instance; low variance.

    The draw is the first of `k = samples` different values, drawn one after the other without
    replacement. With `S` the set of them and `P(S)` its probability, whatever the order,

        d/dtheta E[f(x)] = E[ sum_{s in S} R(s) dp(s) (f(s) - b(s)) ],     R(s) = P_s(S - s) / P(S),
        b(s) = p(s) f(s) + sum_{r in S - s} p(r) P_sr(S - s - r) / P_s(S - s) f(r),

    where `P_s` is the probability when `s` has been taken out of the support before. The baseline `b(s)`
    is built in: its mean given that `s` is drawn first is `E[f]`, for every `s`. The order of the draws is
    integrated out, so the variance is less than that of `k` draws with replacement, and falls with `k`.
    If `k` is the number of values or more, each value is evaluated, and there is no variance. The weights
    are linear in `dp`, and right for every derivative.

    A value of probability zero is drawn only after all others. Where a probability that is a parameter
    itself is exactly zero, draw all values.

    Attributes:
        samples: how many values are drawn, from 2 to 10: the probability of a set is a sum over the orders in
            which it can be drawn, taken over its subsets. More than there are values means all of them.

    Raises:
        ValueError: `samples` is not from 2 to 10.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def square(p):
        ...     n = ppl.binomial(2, p).using(ppl.estimators.UnorderedSet(samples=3)) @ "n"
        ...     return n**2.0
        >>> round(float(square.grad(jax.random.key(0), 0.25)), 4)  # 2 + 4 p, with all values exact
        3.0

    References:
        Kool, van Hoof, Welling, "Estimating gradients for discrete random variables by sampling without
        replacement", 2020.
    """

    samples: int = field(metadata={"static": True})
    usage: ClassVar[str] = "UnorderedSet(samples)"

    def __post_init__(self) -> None:
        if not 2 <= self.samples <= MOST_SAMPLES:
            raise ValueError(
                f"UnorderedSet draws from 2 to {MOST_SAMPLES} values, got samples={self.samples}: the "
                "probability of a set goes through all its subsets. For more values use "
                "ppl.estimators.LeaveOneOut(samples), or ppl.estimators.Enumerate() for all of them."
            )

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, and the other members of the set as phantoms.

        The coefficients of the `f(s)` sum to zero, so that the coefficient of the draw itself is left out:
        each of the others weighs `f(s) - f(x)`.
        """
        drawn = self._draw(distribution, noise)
        # Where only values of probability zero are left, they are all alike.
        least = jnp.sqrt(jnp.finfo(drawn.masses.dtype).tiny)
        probabilities = jnp.maximum(jax.lax.stop_gradient(drawn.masses), least)
        places, left = [drawn.place], ~drawn.place
        for _ in range(min(self.samples, len(drawn.support)) - 1):
            places.append(pick(jnp.where(left, probabilities, 0), noise))
            left = left & ~places[-1]
        p = jnp.stack([at(place, probabilities) for place in places])
        change = jnp.stack([at(place, moved(drawn.masses)) for place in places])
        weights = _coefficients(p, change, jnp.sum(jnp.where(left, probabilities, 0), axis=0))[1:]
        phantoms = value_at(jnp.stack(places[1:], axis=1), drawn.support) if places[1:] else None
        return Contribution(drawn.value, phantoms=phantoms, weights=None if phantoms is None else weights)


def _coefficients(p: Any, change: Any, rest: Any) -> Any:
    """Of `f(s)` for each member `s` of the set: shape `(k, *b)`, linear in `change`, of sum zero.

    Args:
        p: the probabilities of the members, shape `(k, *b)`.
        change: their derivatives, of the same shape.
        rest: the probability of all values outside the set, shape `b`.
    """
    count = len(p)
    probability = _completions(p, rest)
    one = 2 ** np.arange(count)
    two = one[:, None] | one  # on the diagonal the subset of one
    first = probability[one]
    leave_one_out = change * first / probability[0]
    second = probability[two] / first[:, None]
    return leave_one_out - p * jnp.sum(leave_one_out[:, None] * second, axis=0)


def _completions(p: Any, rest: Any) -> Any:
    """For each subset of a set, the probability that draws after it complete the set: shape `(2**k, *b)`.

    Subsets are numbers whose bits are members. The next draw is any member `s` that is missing,

        P(A) = sum_{s not in A} p(s) / (1 - p(A)) P(A + s),      P(S) = 1,

    where `1 - p(A)` is summed from what is left, so that nothing cancels.
    """
    count, subsets = len(p), np.arange(2 ** len(p))
    ones = (1,) * (p.ndim - 1)
    missing = (subsets[:, None] >> np.arange(count) & 1 == 0).reshape(-1, count, *ones)
    joined = subsets[:, None] | 2 ** np.arange(count)
    waiting = jnp.where(missing, p, 0)  # (2**k, k, *b)
    full = (subsets == subsets[-1]).reshape(-1, *ones)
    left = jnp.where(full, 1, rest + jnp.sum(waiting, axis=1))
    probability = jnp.ones_like(left)
    for _ in range(count):  # each turn makes the subsets right that lack one member more
        taken = jnp.sum(waiting * probability[joined], axis=1) / left
        probability = jnp.where(full, 1, taken)
    return probability
