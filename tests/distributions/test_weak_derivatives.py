"""Measure-valued derivatives against the derivative of an integral or a sum.

The derivative of E[f(x)] is that of a closed form in SciPy's or JAX's functions; the estimate is the mean
of the contrast form over 200,000 draws, and must agree to 5 standard errors (false alarm 6e-7 a number).
`f` is skewed, or discontinuous, or grows exponentially.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.special
import scipy.stats as st

from ppl.distributions.flip import Flip
from ppl.distributions.sampling import draw
from ppl.distributions.weak_derivatives import has_weak_derivative, weak_derivative
from ppl.noise import Noise

COUNT = 200_000
THRESHOLD = 0.8  # inside every support
INTEGRANDS = {
    "indicator": lambda x: (x > THRESHOLD) * 1.0,
    "cube": lambda x: x**3,
    "exponential": lambda x: np.exp(0.2 * x) if isinstance(x, np.ndarray | float) else jnp.exp(0.2 * x),
}
CONTINUOUS = {
    "normal": (npd.Normal, (0.7, 1.3), lambda loc, scale: st.norm(loc, scale)),
    "exponential": (npd.Exponential, (1.2,), lambda rate: st.expon(scale=1 / rate)),
    "gamma": (npd.Gamma, (2.3, 1.4), lambda a, b: st.gamma(a, scale=1 / b)),
    "flat_gamma": (npd.Gamma, (0.4, 0.6), lambda a, b: st.gamma(a, scale=1 / b)),
    "sharp_gamma": (npd.Gamma, (30.0, 20.0), lambda a, b: st.gamma(a, scale=1 / b)),
    "chi2": (npd.Chi2, (2.7,), st.chi2),
    "beta": (npd.Beta, (2.1, 0.8), st.beta),
    "horned_beta": (npd.Beta, (0.4, 0.6), st.beta),
    "sharp_beta": (npd.Beta, (40.0, 15.0), st.beta),
    "weibull": (npd.Weibull, (1.4, 1.7), lambda scale, c: st.weibull_min(c, scale=scale)),
    "heavy_weibull": (npd.Weibull, (0.9, 0.8), lambda scale, c: st.weibull_min(c, scale=scale)),
}
DISCRETE = {
    "flip": (Flip, (0.3,), lambda p: st.bernoulli(p)),
    "bernoulli": (npd.BernoulliProbs, (0.3,), st.bernoulli),
    "bernoulli_logits": (npd.BernoulliLogits, (0.4,), lambda t: st.bernoulli(1 / (1 + np.exp(-t)))),
    "categorical": (
        lambda t: npd.CategoricalProbs(jax.nn.softmax(jnp.array([0.0, 1.0, 2.0, -1.0]) * t)),
        (0.8,),
        lambda t: softmax_law(np.array([0.0, 1.0, 2.0, -1.0]) * t),
    ),
    "categorical_logits": (
        lambda t: npd.CategoricalLogits(jnp.array([0.0, 1.0, 2.0, -1.0]) * t),
        (0.8,),
        lambda t: softmax_law(np.array([0.0, 1.0, 2.0, -1.0]) * t),
    ),
    "poisson": (npd.Poisson, (1.6,), st.poisson),
    "geometric": (npd.GeometricProbs, (0.35,), lambda p: st.geom(p, -1)),
    "geometric_logits": (npd.GeometricLogits, (-0.3,), lambda t: st.geom(1 / (1 + np.exp(-t)), -1)),
    "binomial": (lambda p: npd.BinomialProbs(p, 6), (0.35,), lambda p: st.binom(6, p)),
    "binomial_logits": (
        lambda t: npd.BinomialLogits(t, 6),
        (-0.4,),
        lambda t: st.binom(6, 1 / (1 + np.exp(-t))),
    ),
}


def softmax_law(logits):
    weights = np.exp(logits) / np.exp(logits).sum()
    return st.rv_discrete(values=(np.arange(len(weights)), weights))


def mean(law, name):
    """E[f(x)] with the indicator from the distribution function, the rest by fine quantiles or a sum."""
    f = INTEGRANDS[name]
    if hasattr(law, "pmf"):
        k = np.arange(0, 200)
        return float(np.sum(law.pmf(k) * f(k.astype(float))))
    if name == "indicator":
        return float(law.sf(THRESHOLD))
    if name == "cube":
        return float(law.moment(3))
    if law.dist.name == "beta":  # its density is infinite at the ends
        return float(scipy.special.hyp1f1(law.args[0], sum(law.args), 0.2))
    return float(law.expect(f, lb=law.ppf(1e-17), ub=law.isf(1e-18), epsabs=1e-13, epsrel=1e-12, limit=500))


def central_difference(of, parameters, i):
    h = 2e-3 * abs(parameters[i])
    at = lambda step: of(*(p + step * (i == j) for j, p in enumerate(parameters)))
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def contrasts(make, parameters, functions, seed=11):
    """For each f and parameter, the derivative of sum_j w_j (f(x_j) - f(x)) in each of the draws."""

    def surrogate(*parameters):
        fixed = make(*map(jax.lax.stop_gradient, parameters))
        noise = Noise(jax.random.key(seed))
        value = draw(fixed.expand((COUNT,)), noise)
        moving = (
            make(*(jnp.full(COUNT, 1.0) * p for p in parameters)) if not vector(make) else make(*parameters)
        )
        weak = weak_derivative(moving, value, noise)
        assert weak.phantoms.shape[1:] == value.shape and weak.phantoms.dtype == value.dtype
        differences = jnp.stack([f(weak.phantoms * 1.0) - f(value * 1.0) for f in functions])
        return jnp.sum(weak.weights * differences, axis=1)

    @jax.jit
    def columns(*parameters):
        along = lambda tangent: jax.jvp(surrogate, parameters, tuple(tangent))
        return jax.vmap(along)(jnp.eye(len(parameters)))

    values, found = columns(*map(jnp.float32, parameters))
    np.testing.assert_array_equal(values, 0.0)
    return np.swapaxes(np.asarray(found, np.float64), 0, 1)


def vector(make):
    return make in (DISCRETE["categorical"][0], DISCRETE["categorical_logits"][0])


@pytest.mark.parametrize("family", [*CONTINUOUS, *DISCRETE])
def test_derivative_of_an_expectation(family):
    make, parameters, law = {**CONTINUOUS, **DISCRETE}[family]
    found = contrasts(make, parameters, list(INTEGRANDS.values()))
    for integrand, columns in zip(INTEGRANDS, found, strict=True):
        for i, column in enumerate(columns):
            truth = central_difference(lambda *p, name=integrand: mean(law(*p), name), parameters, i)
            error = column.std() / np.sqrt(COUNT)
            assert abs(column.mean() - truth) < 5 * error + 1e-7, (integrand, i, column.mean(), truth, error)


def test_the_weights_of_a_bernoulli_and_a_categorical_are_exact_to_every_order():
    """Summed over the draw and the phantom, the contrast form is the difference of two expectations."""
    f = jnp.array([0.3, -1.2, 2.5])
    old, new = jnp.array([0.2, 0.5, 0.3]), jnp.array([0.6, 0.1, 0.3])
    total = 0.0
    for x in range(3):
        for phantom in range(3):
            if phantom != x:  # drawn with probability 1/2, weight 2 (new - old)
                total += old[x] * 0.5 * 2 * (new[phantom] - old[phantom]) * (f[phantom] - f[x])
    np.testing.assert_allclose(total, (new - old) @ f, rtol=1e-6)
    for distribution in (Flip(0.3), npd.BernoulliLogits(0.3), npd.CategoricalLogits(jnp.zeros(3))):
        value = draw(distribution, Noise(jax.random.key(0)))
        assert weak_derivative(distribution, value, Noise(jax.random.key(1))).exact
    assert not weak_derivative(npd.Poisson(2.0), jnp.array(1), Noise(jax.random.key(1))).exact


def test_second_derivative_of_the_weights_of_a_categorical():
    """The weight is the probability itself less a constant, so its curvature is the probability's."""
    value, noise = jnp.array([2, 0, 1]), lambda: Noise(jax.random.key(5))
    logits = lambda t: jnp.array([0.0, 1.0, 2.0]) * t
    weight = lambda t: weak_derivative(
        npd.CategoricalLogits(jnp.tile(logits(t), (3, 1))), value, noise()
    ).weights[0]
    phantom = weak_derivative(npd.CategoricalLogits(jnp.zeros((3, 3))), value, noise()).phantoms[0]
    curvature = jax.jacfwd(jax.jacfwd(weight))(0.7)
    probability = jax.jacfwd(jax.jacfwd(lambda t: jax.nn.softmax(logits(t))))(0.7)
    assert not jnp.any(phantom == value)
    np.testing.assert_allclose(curvature, 2 * probability[phantom], rtol=1e-5)


def test_one_category_has_no_other():
    weak = weak_derivative(
        npd.CategoricalLogits(jnp.zeros((2, 1))), jnp.zeros(2, int), Noise(jax.random.key(0))
    )
    np.testing.assert_array_equal(weak.weights, 0.0)


def test_each_concentration_of_a_dirichlet():
    """Against the beta law of one entry; the phantoms lie on the simplex."""
    concentration, f = jnp.array([1.5, 0.6, 2.2]), INTEGRANDS["cube"]

    def surrogate(concentration):
        noise, fixed = Noise(jax.random.key(3)), jax.lax.stop_gradient(concentration)
        value = draw(npd.Dirichlet(fixed).expand((COUNT,)), noise)
        weak = weak_derivative(npd.Dirichlet(jnp.broadcast_to(concentration, (COUNT, 3))), value, noise)
        assert weak.phantoms.shape == (3, COUNT, 3) and weak.weights.shape == (3, COUNT)
        jump = lambda x: f(x[..., 0]) + 2.0 * (x[..., 0] > 0.4)
        sums = weak.phantoms.sum(axis=-1)
        return jnp.sum(weak.weights * (jump(weak.phantoms) - jump(value)), axis=0), sums

    def mean(*concentration):
        law = st.beta(concentration[0], sum(concentration[1:]))
        return law.moment(3) + 2.0 * law.sf(0.4)

    for i in range(3):
        _, column, sums = jax.jvp(surrogate, (concentration,), (jnp.eye(3)[i],), has_aux=True)
        np.testing.assert_allclose(sums, 1.0, rtol=1e-5)
        truth = central_difference(mean, tuple(map(float, concentration)), i)
        error = np.std(column) / np.sqrt(COUNT)
        assert abs(np.mean(column, dtype=float) - truth) < 5 * error, (i, column.mean(), truth, error)


def test_the_other_draw_of_a_weibull_lies_at_the_same_quantile(x64):
    e = jnp.geomspace(1e-8, 60.0, 40)
    weak = weak_derivative(npd.Weibull(jnp.full(40, 2.0), 1.0), 2.0 * e, Noise(jax.random.key(0)))
    spread = weak.phantoms[1] / 2.0
    np.testing.assert_allclose(spread - jnp.log1p(spread * jnp.log(spread)), e, rtol=1e-8, atol=1e-14)


class Halved(npd.Normal):
    """A normal with a density of its own."""

    def log_prob(self, value):
        return super().log_prob(value) - jnp.log(2.0)


def test_families_without_a_decomposition():
    for distribution in (npd.Cauchy(0.0, 1.0), Halved(0.0, 1.0), npd.Normal(jnp.zeros(2)).to_event(1)):
        assert not has_weak_derivative(distribution)
        assert weak_derivative(distribution, jnp.zeros(2), Noise(jax.random.key(0))) is None
