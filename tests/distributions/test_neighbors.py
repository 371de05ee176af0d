"""The weights of neighbors against derivatives of SciPy's distribution functions, value by value.

What is checked at each k is the flow of probability from k to k + 1,

    p(k) up(k) - p(k + 1) down(k + 1) = -dF(k; theta),

whose right side is a central difference of SciPy's F, in double precision.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.special
import scipy.stats as st

from ppl.distributions.finite_support import support_values
from ppl.distributions.flip import Flip
from ppl.distributions.neighbors import has_neighbors, neighbors

SLOPES = np.array([0.0, 1.0, -0.7, 2.0])


def _categorical(t: float) -> Any:
    return st.rv_discrete(values=(np.arange(4), scipy.special.softmax(SLOPES * t)))


def _logit(law: Any) -> Any:
    return lambda t: law(1 / (1 + np.exp(-t)))


FAMILIES = {
    "flip": (Flip, 0.3, st.bernoulli),
    "bernoulli_logits": (npd.BernoulliLogits, 0.4, _logit(st.bernoulli)),
    "categorical": (lambda t: npd.CategoricalProbs(jax.nn.softmax(SLOPES * t)), 0.8, _categorical),
    "categorical_logits": (lambda t: npd.CategoricalLogits(SLOPES * t), 0.8, _categorical),
    "binomial": (lambda p: npd.BinomialProbs(p, 6), 0.35, lambda p: st.binom(6, p)),
    "binomial_logits": (lambda t: npd.BinomialLogits(t, 6), -0.4, _logit(lambda p: st.binom(6, p))),
    "poisson": (npd.Poisson, 1.6, st.poisson),
    "geometric": (npd.GeometricProbs, 0.35, lambda p: st.geom(p, -1)),
    "geometric_logits": (npd.GeometricLogits, -0.3, _logit(lambda p: st.geom(p, -1))),
    "gamma_poisson_rate": (lambda r: npd.GammaPoisson(2.3, r), 0.7, lambda r: st.nbinom(2.3, r / (1 + r))),
    "gamma_poisson_concentration": (
        lambda a: npd.GammaPoisson(a, 0.7),
        2.3,
        lambda a: st.nbinom(a, 0.7 / 1.7),
    ),
    "heavy_tail": (lambda a: npd.GammaPoisson(a, 0.02), 0.4, lambda a: st.nbinom(a, 0.02 / 1.02)),
    "negative_binomial": (lambda p: npd.NegativeBinomialProbs(4.0, p), 0.3, lambda p: st.nbinom(4, 1 - p)),
    "negative_binomial_logits": (
        lambda t: npd.NegativeBinomialLogits(4.0, t),
        -0.6,
        _logit(lambda p: st.nbinom(4, 1 - p)),
    ),
    "negative_binomial_count": (
        lambda n: npd.NegativeBinomialLogits(n, -0.6),
        4.0,
        lambda n: st.nbinom(n, 1 / (1 + np.exp(-0.6))),
    ),
}


def _flow(make: Any, theta: float, ks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The neighbors of each of `ks`, and the derivatives of their weights; one row for each."""
    support = support_values(make(theta))
    dtype = int if support is None else support.dtype
    values = jnp.asarray(ks).astype(dtype)
    one = lambda t, k: neighbors(make(t), k, None if support is None else jnp.asarray(support))
    found = jax.vmap(one, in_axes=(None, 0))(theta, values)
    assert not np.any(np.asarray(found.weights)), "zero in value"
    slopes = jax.vmap(jax.jacobian(lambda t, k: one(t, k).weights), in_axes=(None, 0))(theta, values)
    return np.asarray(found.values).astype(int), np.asarray(slopes)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FAMILIES)
def test_flow(name: str) -> None:
    make, theta, law = FAMILIES[name]
    last = int(min(law(theta).ppf(1 - 1e-12), law(theta).support()[1]))
    ks = np.arange(last + 1)
    reached, slopes = _flow(make, theta, ks)
    p = law(theta).pmf(ks)
    flow = np.zeros(last + 2)
    for k in ks:
        for value, slope in zip(reached[k], slopes[k], strict=True):
            assert abs(value - k) == 1 or slope == 0, "a neighbor, or nothing"
            assert 0 <= value <= law(theta).support()[1]
            flow[min(k, value)] += p[k] * slope * (value - k)
    step = 1e-4
    cdf = lambda t: law(t).cdf(ks)
    wanted = -(8 * (cdf(theta + step) - cdf(theta - step)) - (cdf(theta + 2 * step) - cdf(theta - 2 * step)))
    np.testing.assert_allclose(flow[: last + 1], wanted / (12 * step), atol=2e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("end", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 3])
def test_flow_at_the_ends_of_a_probability(end: float, count: int) -> None:
    """At p = 0 the draw is 0, and d/dp E f = n (f(1) - f(0)); at p = 1 accordingly."""
    make = (lambda p: Flip(p)) if count == 1 else (lambda p: npd.BinomialProbs(p, 3))
    f = lambda k: k**2 + 1.0
    k = int(end * count)
    reached, slopes = _flow(make, end, np.array([k]))
    found = np.sum(slopes[0] * (f(reached[0]) - f(k)))
    np.testing.assert_allclose(found, count * (f(1) - f(0) if k == 0 else f(count) - f(count - 1)))


def test_geometric_that_always_succeeds() -> None:
    """At p = 1 the draw is 0, and d/dp E f = f(0) - f(1)."""
    reached, slopes = _flow(npd.GeometricProbs, 1.0, np.array([0]))
    assert reached.tolist() == [[1]] and slopes.tolist() == [[-1.0]]


def test_single_precision_in_the_tails() -> None:
    """The sum of masses starts at the draw, so it neither cancels nor overflows far away from the mean."""
    ks = np.array([0, 3, 40, 400, 4000])
    with jax.enable_x64(True):
        right = _flow(lambda a: npd.GammaPoisson(a, 0.02), 0.4, ks)[1]
    rough = _flow(lambda a: npd.GammaPoisson(a, 0.02), 0.4, ks)[1]
    np.testing.assert_allclose(rough, right, rtol=2e-3)


def test_which_families_have_neighbors() -> None:
    assert has_neighbors(npd.DiscreteUniform(0, 3), support_values(npd.DiscreteUniform(0, 3)))
    assert not has_neighbors(npd.Normal(0.0, 1.0), None)
    assert not has_neighbors(npd.Multinomial(2, jnp.ones(3) / 3), None)
    coins = npd.Bernoulli(jnp.ones(2) / 2).to_event(1)
    assert not has_neighbors(coins, support_values(coins))
    masked = npd.Bernoulli(0.5).mask(False)
    assert not has_neighbors(masked, support_values(masked))

    class Shifted(npd.Poisson):
        def log_prob(self, value: Any) -> Any:
            return super().log_prob(value - 1)

    assert not has_neighbors(Shifted(2.0), None)
