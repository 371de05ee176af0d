"""The derivative of an ordered discrete family, carried by the next value up and the next value down.

Summation by parts turns the derivative of a mean into differences of neighbors. With `F` the distribution
function,

    d E[f(x)] = sum_k (f(k + 1) - f(k)) (-dF(k)).

A draw at `k` sees the step from `k` to `k + 1` upwards, a draw at `k + 1` sees it downwards, so

    d E[f(x)] = E[ up(x) (f(x + 1) - f(x)) + down(x) (f(x - 1) - f(x)) ]

if `p(k) up(k) - p(k + 1) down(k + 1) = -dF(k)` for all `k`. How a step is divided between the two sides is
free, and each family has its own rule:

- all of it upwards, where `-dF(k) / p(k)` is simple: one neighbor, and finite at every parameter;
- in proportion to the probabilities of both, `up(k) = -down(k + 1) = -dF(k) / (p(k) + p(k + 1))`: of all
  ways to divide a step, the one of least second moment.

The weights are zero in value and move with the parameters. They are right once.

References:
    Glynn, "Optimization of stochastic systems via simulation", 1989.
    Heidergott, Vázquez-Abad, "Measure-valued differentiation for Markov chains", 2008.
    Arya, Schauer, Schäfer, Rackauckas, "Automatic differentiation of programs with discrete randomness",
    2022.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.lax import stop_gradient
from jax.scipy.special import digamma
from numpyro.distributions import discrete

from ppl.distributions.masses import at, indicator, is_masked, masses, value_at


class Neighbors(NamedTuple):
    """The neighbors of a draw that carry the derivative.

    Attributes:
        values: inside the support; at its ends a neighbor may be the draw itself; shape `(J, *b)`.
        weights: zero in value, not in derivative; shape `(J, *b)`.
    """

    values: jax.Array
    weights: jax.Array


Rule = Callable[[Any, Any], Neighbors]
_RULES: dict[type, Rule] = {}


def _steps(*classes: type) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


def _find(distribution: Any) -> Rule | None:
    """The rule of the nearest ancestor with one, if the instance has that ancestor's density."""
    for cls in type(distribution).__mro__:
        if cls in _RULES:
            return _RULES[cls] if type(distribution).log_prob is cls.log_prob else None
    return None


def has_neighbors(distribution: Any, support: Any) -> bool:
    """Whether the family is ordered and has a rule, or a finite support of numbers.

    Example:
        >>> import numpyro.distributions as dist
        >>> has_neighbors(dist.Poisson(2.0), None), has_neighbors(dist.Normal(0.0, 1.0), None)
        (True, False)
    """
    if _find(distribution) is not None:
        return True
    return support is not None and distribution.event_shape == () and not is_masked(distribution)


def neighbors(distribution: Any, value: Any, support: Any) -> Neighbors:
    """The neighbors of the draw `value`, shape `b`, and their weights.

    Args:
        distribution: of which `has_neighbors` holds.
        value: the draw.
        support: the values in ascending order, shape `(K,)`, if they are finitely many and known.

    Example:
        >>> import jax, numpyro.distributions as dist
        >>> slope = lambda p: neighbors(dist.GeometricProbs(p), jax.numpy.array(3), None).weights[0]
        >>> neighbors(dist.GeometricProbs(0.5), jax.numpy.array(3), None).values.tolist()
        [4]
        >>> float(jax.grad(slope)(0.5))
        -8.0
    """
    value = stop_gradient(value)
    rule = _find(distribution)
    if rule is None:
        return _in_table(value, support, masses(distribution, support))
    values, weights = rule(distribution, value)
    return Neighbors(stop_gradient(values).astype(value.dtype), weights)


def _step(parameter: Any) -> Any:
    """`theta - stop_gradient(theta)`, at least in float32."""
    parameter = jnp.asarray(parameter)
    parameter = parameter.astype(jnp.promote_types(jnp.result_type(parameter, float), jnp.float32))
    return parameter - stop_gradient(parameter)


def _upwards(value: Any, weight: Any) -> Neighbors:
    return Neighbors((value + 1)[None], jnp.broadcast_to(weight, value.shape)[None])


def _in_table(value: Any, support: Any, table: Any) -> Neighbors:
    """Each step divided in proportion; of two values, each has one neighbor."""
    place, p = indicator(value, support), stop_gradient(table)
    pair = p[:-1] + p[1:]
    change = -jnp.cumsum(table - p, axis=0)[:-1] / jnp.where(pair > 0, pair, 1)
    change = jnp.where(pair > 0, change, 0)
    up, down = at(place[:-1], change), -at(place[1:], change)
    if len(support) == 2:
        return Neighbors(value_at(place[::-1], support)[None], (up + down)[None])
    index = jnp.argmax(place, axis=0)
    values = support[jnp.clip(jnp.stack([index + 1, index - 1]), 0, len(support) - 1)]
    return Neighbors(values, jnp.stack([up, down]))


@_steps(dist.BinomialProbs, dist.BinomialLogits)
def _binomial(distribution: Any, value: Any) -> Neighbors:
    """One of the failures becomes a success, or one of the successes a failure.

    `-dF(k) / dp` is `n` times the probability of `k` successes in `n - 1` trials; `1 - p` of it goes upwards.
    No division by `p`, and no variance if `f` is linear.
    """
    n, change = distribution.total_count, _step(distribution.probs)
    values = jnp.stack([jnp.minimum(value + 1, n), jnp.maximum(value - 1, 0)])
    return Neighbors(values, jnp.stack([(n - value) * change, -value * change]))


@_steps(dist.Poisson)
def _poisson(distribution: Any, value: Any) -> Neighbors:
    """`-dF(k) / drate = p(k)`."""
    return _upwards(value, _step(distribution.rate))


@_steps(discrete.GeometricProbs, discrete.GeometricLogits)
def _geometric(distribution: Any, value: Any) -> Neighbors:
    """`-dF(k) / dp = -(k + 1) (1 - p)^k`."""
    p = distribution.probs
    return _upwards(value, -(value + 1) / stop_gradient(p) * _step(p))


@_steps(dist.GammaPoisson, dist.NegativeBinomialLogits)
def _gamma_poisson(distribution: Any, value: Any) -> Neighbors:
    """`-dF(k) / drate = -(a + k) p(k) / (rate (1 + rate))`; in the concentration `a` a sum of masses."""
    a, rate = distribution.concentration, distribution.rate
    held, fixed = stop_gradient(a), stop_gradient(rate)
    rates = -(held + value) / (fixed * (1 + fixed)) * _step(rate)
    return _upwards(value, rates + stop_gradient(_concentration_step(held, fixed, value)) * _step(a))


def _concentration_step(a: Any, rate: Any, value: Any) -> Any:
    """`-dF(k) / da / p(k)` of a gamma-Poisson count at `k`, which has no closed form.

    The score in `a` is `s(i) = digamma(a + i) - digamma(a) + log(rate / (1 + rate))`, which increases in `i`
    and has mean zero. So `-sum_{i <= k} p(i) s(i) = sum_{i > k} p(i) s(i)`; the sum whose terms are all of
    one sign is taken, starting at `k`, until its terms no longer count.
    """
    dtype = jnp.promote_types(jnp.result_type(a, rate, float), jnp.float32)
    shape = jnp.broadcast_shapes(jnp.shape(a), jnp.shape(rate), jnp.shape(value))
    a, rate, k = (jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in (a, rate, value))
    offset = jnp.log(rate) - jnp.log1p(rate) - digamma(a)
    score = lambda i: digamma(a + i) + offset
    low = score(k) <= 0
    # p(i + 1) / p(i) = (a + i) / ((i + 1) (1 + rate))
    ratio_up = lambda i: (a + i) / ((i + 1) * (1 + rate))
    first = jnp.where(low, 1, ratio_up(k))
    start = jnp.where(low, k, k + 1)

    def active(i: Any, term: Any, total: Any) -> Any:
        return (i >= 0) & ~(term < jnp.finfo(dtype).eps * total)

    def body(state: Any) -> Any:
        i, ratio, term, total = state
        going = active(i, term, total)
        next_ = jnp.where(low, i - 1, i + 1)
        below = jnp.where(low, ratio / ratio_up(jnp.maximum(i - 1, 0)), ratio * ratio_up(i))
        ratio = jnp.where(going & (next_ >= 0), below, ratio)
        term = jnp.where(going & (next_ >= 0), ratio * jnp.abs(score(next_)), term)
        total = jnp.where(going & (next_ >= 0), total + term, total)
        return jnp.where(going, next_, i), ratio, term, total

    term = first * jnp.abs(score(start))
    state = (start, first, term, term)
    return jax.lax.while_loop(lambda s: jnp.any(active(s[0], s[2], s[3])), body, state)[3]
