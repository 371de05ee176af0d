"""Independent truths: sums and integrals over the value of a choice, never over an estimator's noise.

A `Law` is a fixed grid of values with weights that move with the parameters: probabilities of a discrete
law, density times quadrature weight of a continuous one, on panels that end at the jumps of the integrand.
Densities are written out, or SciPy's as in `jax.scipy.stats`; nothing here knows `ppl` or NumPyro.
Expectations of programs are sums over paths; their derivatives are `jax.grad` of these sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats
from jax.scipy.special import betaln, gammaln

from ppl.testing.rules import panels

SMALL = 0.4
"""How far one choice moves the parameter of the next in a chain."""


class Law(NamedTuple):
    """Values of shape `(n,)`, and `weights(theta)` of the same shape."""

    values: np.ndarray
    weights: Callable[[Any], Any]

    def mean(self, function: Callable[[Any], Any], theta: Any) -> Any:
        """The expected value of `function(x)`."""
        return jnp.sum(self.weights(theta) * function(self.values))


def discrete(probabilities: Callable[[Any, Any], Any], count: int) -> Law:
    """The law of 0, 1, ..., with `probabilities(values, theta)`."""
    values = np.arange(count).astype(float)
    return Law(values, lambda theta: probabilities(values, theta))


def continuous(density: Callable[[Any, Any], Any], edges: Sequence[float], count: int = 16) -> Law:
    """The law of a density, by Gauss–Legendre between the edges."""
    values, weights = panels(np.asarray(edges, float), count)
    return Law(values, lambda theta: weights * density(values, theta))


def normal(loc: Any, scale: Any, jump: float) -> Law:
    """The normal law, for functions that jump at one place."""
    edges = np.unique([*np.linspace(-11, 11, 12), jump])
    return continuous(lambda x, t: stats.norm.pdf(x, loc(t), scale(t)), edges)


def exponential(rate: Any, jump: float) -> Law:
    """The exponential law."""
    return continuous(lambda x, t: rate(t) * jnp.exp(-rate(t) * x), [0, jump, 2, 4, 8, 14, 20, 30, 40, 60])


def gamma(concentration: Any, rate: Any, jump: float) -> Law:
    """The gamma law; panels shrink towards zero, where its density is a broken power."""
    edges = np.unique([0, *np.geomspace(1e-8, 0.5, 12), jump, 2, 4, 8, 14, 20, 30, 40])

    def density(x: Any, t: Any) -> Any:
        a, b = concentration(t), rate(t)
        return jnp.exp(a * jnp.log(b) + (a - 1) * jnp.log(x) - b * x - gammaln(a))

    return continuous(density, edges)


def beta(one: Any, zero: Any, jump: float) -> Law:
    """The beta law."""
    ends = np.geomspace(1e-8, 0.25, 12)
    edges = np.unique([0, *ends, jump, *(1 - ends), 1])

    def density(x: Any, t: Any) -> Any:
        a, b = one(t), zero(t)
        return jnp.exp((a - 1) * jnp.log(x) + (b - 1) * jnp.log1p(-x) - betaln(a, b))

    return continuous(density, edges)


def flip(probs: Any) -> Law:
    """Zero or one."""
    return discrete(lambda x, t: jnp.where(x == 1, probs(t), 1 - probs(t)), 2)


def categorical(logits: Any, count: int) -> Law:
    """An index."""
    return discrete(lambda x, t: jax.nn.softmax(logits(t)), count)


def poisson(rate: Any) -> Law:
    """Counts up to where less than 1e-22 is left."""
    return discrete(lambda x, t: jnp.exp(x * jnp.log(rate(t)) - rate(t) - gammaln(x + 1)), 50)


def geometric(probs: Any) -> Law:
    """Failures before the first success."""
    return discrete(lambda x, t: probs(t) * (1 - probs(t)) ** x, 160)


def binomial(count: int, probs: Any) -> Law:
    """Successes among `count` trials."""
    ways = np.array(
        [
            float(np.prod(np.arange(count - k + 1, count + 1)) / np.prod(np.arange(1, k + 1)))
            for k in range(count + 1)
        ]
    )
    return discrete(lambda x, t: ways * probs(t) ** x * (1 - probs(t)) ** (count - x), count + 1)


def coins(probability: Callable[..., Any], result: Callable[..., Any], count: int) -> Any:
    """The expected `result(path)` of coins of `probability(i, path before i)`: a sum over all paths.

    All at once, or one by one where Python branches on a path; that takes longer to compile.
    """

    def term(path: Any) -> Any:
        weight = jnp.asarray(1.0)
        for i, x in enumerate(path):
            p = probability(i, path[:i])
            weight = weight * jnp.where(x == 1.0, p, 1 - p)
        return weight * result(path)

    paths = np.array(list(itertools.product([0.0, 1.0], repeat=count))).reshape(2**count, count)
    try:
        return jnp.sum(jax.vmap(term)(tuple(jnp.asarray(column) for column in paths.T)))
    except jax.errors.JAXTypeError:
        return sum(term(tuple(map(float, path))) for path in paths)


# --- truths of control flows ----------------------------------------------------------------------


def moved_by(theta: Any, x: Any) -> Any:
    """The parameters of the next choice of a chain, after the value `x`."""
    return theta + SMALL * jnp.tanh(x) * jnp.array([1.0, 0.0])


def transition(law: Law, theta: Any) -> Any:
    """Row i: the law of the next choice after the i-th value."""
    return jax.vmap(lambda x: law.weights(moved_by(theta, x)))(jnp.asarray(law.values))


def chain(law: Law, theta: Any, start: Any, steps: int) -> list[Any]:
    """The marginal laws of a chain's choices."""
    marginal = law.weights(moved_by(theta, start))
    marginals = [marginal]
    for _ in range(steps - 1):
        marginal = marginal @ transition(law, theta)
        marginals.append(marginal)
    return marginals
