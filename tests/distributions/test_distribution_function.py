"""Distribution functions: values and tails against SciPy, derivatives against quadrature of the density's."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.integrate
import scipy.special
import scipy.stats as st

from ppl.distributions import beta_path, von_mises
from ppl.distributions.density import log_density
from ppl.distributions.distribution_function import (
    distribution_function,
    has_distribution_function,
    log_tails,
    quantile,
    standardize,
)
from ppl.distributions.growth import growth, time_to_grow
from ppl.errors import UnsupportedProgram

REAL, POSITIVE, UNIT, CIRCLE = (-np.inf, np.inf), (0.0, np.inf), (0.0, 1.0), (-np.pi, np.pi)

# family: (from parameters to the distribution, the parameters, SciPy's law or None, the ends of the support)
CASES = {
    "normal": (npd.Normal, (0.7, 1.3), st.norm, REAL),
    "laplace": (npd.Laplace, (-0.4, 0.8), st.laplace, REAL),
    "cauchy": (npd.Cauchy, (0.5, 1.1), st.cauchy, REAL),
    "gumbel": (npd.Gumbel, (0.5, 1.2), st.gumbel_r, REAL),
    "logistic": (npd.Logistic, (0.5, 1.2), st.logistic, REAL),
    "soft_laplace": (npd.SoftLaplace, (-0.4, 0.8), st.hypsecant, REAL),
    "student_t": (npd.StudentT, (3.5, 0.5, 1.2), st.t, REAL),
    "student_of_low_df": (npd.StudentT, (0.7, 0.5, 1.2), st.t, REAL),
    "asymmetric_laplace": (
        npd.AsymmetricLaplace, (0.1, 0.9, 1.6), lambda loc, s, k: st.laplace_asymmetric(k, loc, s), REAL
    ),
    "asymmetric_laplace_quantile": (npd.AsymmetricLaplaceQuantile, (0.1, 0.9, 0.3), None, REAL),
    "log_normal": (npd.LogNormal, (0.2, 0.6), lambda loc, s: st.lognorm(s, scale=np.exp(loc)), POSITIVE),
    "half_normal": (npd.HalfNormal, (1.4,), lambda s: st.halfnorm(scale=s), POSITIVE),
    "half_cauchy": (npd.HalfCauchy, (1.1,), lambda s: st.halfcauchy(scale=s), POSITIVE),
    "exponential": (npd.Exponential, (1.7,), lambda rate: st.expon(scale=1 / rate), POSITIVE),
    "gamma": (npd.Gamma, (2.3, 1.7), lambda a, b: st.gamma(a, scale=1 / b), POSITIVE),
    "flat_gamma": (npd.Gamma, (0.3, 0.9), lambda a, b: st.gamma(a, scale=1 / b), POSITIVE),
    "chi2": (npd.Chi2, (3.7,), st.chi2, POSITIVE),
    "inverse_gamma": (npd.InverseGamma, (3.3, 1.7), lambda a, b: st.invgamma(a, scale=b), POSITIVE),
    "weibull": (npd.Weibull, (1.4, 2.2), lambda s, c: st.weibull_min(c, scale=s), POSITIVE),
    "gompertz": (npd.Gompertz, (0.8, 1.5), lambda c, rate: st.gompertz(c, scale=1 / rate), POSITIVE),
    "dagum": (npd.Dagum, (1.3, 2.5, 1.2), lambda p, a, b: st.burr(a, p, scale=b), POSITIVE),
    "beta": (npd.Beta, (2.1, 3.2), st.beta, UNIT),
    "horned_beta": (npd.Beta, (0.5, 0.7), st.beta, UNIT),
    "kumaraswamy": (npd.Kumaraswamy, (2.1, 3.2), None, UNIT),
    "von_mises": (npd.VonMises, (0.8, 2.3), None, CIRCLE),
    "sharp_von_mises": (npd.VonMises, (-2.5, 30.0), None, CIRCLE),
    "mixture": (
        lambda t, a, b: npd.MixtureSameFamily(
            npd.CategoricalLogits(jnp.stack([t, 0.0])), npd.Beta(jnp.stack([a, 2.0]), jnp.stack([b, 0.7]))
        ),
        (0.3, 2.0, 3.0), None, UNIT,
    ),
    "affine": (
        lambda loc, a: npd.TransformedDistribution(
            npd.Gumbel(loc, 1.3), npd.transforms.AffineTransform(a, -2.0)
        ),
        (0.3, 0.8), None, REAL,
    ),
}  # fmt: skip
MOVING = {
    "uniform": (npd.Uniform, (-1.0, 2.5), lambda low, high: st.uniform(low, high - low)),
    "pareto": (npd.Pareto, (1.3, 3.5), lambda s, a: st.pareto(a, scale=s)),
    "levy": (npd.Levy, (0.3, 1.2), st.levy),
    "log_uniform": (npd.LogUniform, (0.5, 3.0), st.loguniform),
    "lower_truncated_power_law": (
        npd.LowerTruncatedPowerLaw, (-2.5, 0.7), lambda a, low: st.pareto(-a - 1, scale=low)
    ),
    "truncated_normal": (
        lambda loc, low, high: npd.TruncatedNormal(loc, 1.2, low=low, high=high),
        (0.3, -0.5, 2.0),
        lambda loc, low, high: st.truncnorm((low - loc) / 1.2, (high - loc) / 1.2, loc, 1.2),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "family", [name for name, case in {**CASES, **MOVING}.items() if case[2] is not None]
)
def test_tails_are_scipys(family, x64):
    make, parameters, law, *_ = {**CASES, **MOVING}[family]
    law = law(*parameters)
    points = np.concatenate([law.ppf([1e-7, 1e-4, 0.2, 0.5, 0.77, 0.999]), law.isf([1e-5, 1e-7])])
    assert has_distribution_function(make(*parameters))
    low, high = log_tails(make(*parameters), jnp.asarray(points))
    np.testing.assert_allclose(low, law.logcdf(points), rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(high, law.logsf(points), rtol=1e-8, atol=1e-14)


def tail_mass(make, parameters, ends, x, side):
    """By adaptive quadrature of the density, on one side."""
    density = jax.jit(lambda t, *p: jnp.exp(log_density(make(*p), t)))
    f = lambda t: float(density(t, *parameters))
    low, high = (ends[0], x) if side == 0 else (x, ends[1])
    return scipy.integrate.quad(f, low, high, epsabs=0, epsrel=1e-11, limit=400)[0]


@pytest.mark.parametrize("family", [name for name, case in CASES.items() if case[2] is None])
def test_tails_are_those_of_the_density(family, x64):
    make, parameters, _, ends = CASES[family]
    draws = np.quantile(make(*parameters).sample(jax.random.key(0), (500,)), [0.03, 0.5, 0.97])
    for x in draws:
        low, high = log_tails(make(*parameters), x)
        np.testing.assert_allclose(np.exp(low), tail_mass(make, parameters, ends, x, 0), rtol=1e-8)
        np.testing.assert_allclose(np.exp(high), tail_mass(make, parameters, ends, x, 1), rtol=1e-8)


def slope_of_tail(make, parameters, ends, x, i):
    """d/dtheta F(x) as the integral of dp/dtheta."""
    slope = jax.jit(
        lambda t, *p: jax.jvp(
            lambda *p: jnp.exp(log_density(make(*p), t)), p, tuple(1.0 * (i == j) for j in range(len(p)))
        )[1]
    )
    f = lambda t: float(slope(t, *parameters))
    middle = x - 1.0 if np.isinf(ends[0]) else 0.5 * (ends[0] + x)
    pieces = [(ends[0], middle), (middle, x)]
    return sum(scipy.integrate.quad(f, a, b, epsabs=1e-12, epsrel=1e-9, limit=400)[0] for a, b in pieces)


SLOPES = [
    "beta", "horned_beta", "student_t", "student_of_low_df", "gamma", "inverse_gamma", "von_mises",
    "sharp_von_mises", "mixture", "affine", "dagum", "asymmetric_laplace_quantile", "soft_laplace",
    "gompertz",
]  # fmt: skip


@pytest.mark.parametrize("family", SLOPES)
@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
def test_derivative_in_every_parameter(family, x64):
    make, parameters, _, ends = CASES[family]
    draws = np.quantile(make(*parameters).sample(jax.random.key(0), (500,)), [0.1, 0.8])
    for x in draws:
        got = jax.jacfwd(lambda p, x=x: distribution_function(make(*p), x))(parameters)
        truth = [slope_of_tail(make, parameters, ends, x, i) for i in range(len(parameters))]
        np.testing.assert_allclose(got, truth, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("family", [*CASES, *MOVING])
def test_derivative_in_the_value_is_the_density(family, x64):
    make, parameters, *_ = {**CASES, **MOVING}[family]
    law = make(*parameters)
    x = jnp.quantile(law.sample(jax.random.key(0), (500,)), jnp.array([0.05, 0.4, 0.95]))
    slope = jax.vmap(jax.grad(lambda x: distribution_function(law, x)))(x)
    np.testing.assert_allclose(slope, jnp.exp(log_density(law, x)), rtol=1e-9)


def test_a_second_derivative_is_that_of_the_density(x64):
    bend = jax.hessian(lambda loc: distribution_function(npd.Normal(loc, 1.3), 0.4))(0.1)
    z = 0.3 / 1.3
    np.testing.assert_allclose(bend, -z * st.norm.pdf(z) / 1.3**2, rtol=1e-12)
    with pytest.raises(UnsupportedProgram, match=r"second derivative .* beta"):
        jax.hessian(lambda a: distribution_function(npd.Beta(a, 2.0), 0.4))(1.2)


@pytest.mark.parametrize("a", [0.05, 0.7, 3.0, 200.0])
@pytest.mark.parametrize("b", [0.05, 1.0, 40.0])
def test_beta_velocity_follows_the_distribution_function(a, b, x64):
    """Central differences of SciPy's smaller tail, in the logit."""
    for q in (0.02, 0.3, 0.6, 0.97):
        x = scipy.special.betaincinv(a, b, q)
        if not 1e-250 < x < 1 - 1e-12:
            continue
        s = np.log(x) - np.log1p(-x)
        density = np.exp(a * np.log(x) + b * np.log1p(-x) - scipy.special.betaln(a, b))
        got = beta_path.velocity(jnp.asarray(s), jnp.asarray(a), jnp.asarray(b))
        for i, speed in enumerate(got):
            h = 3e-4 * (a, b)[i]
            tail = scipy.special.betainc if q < 0.5 else scipy.special.betaincc
            at = lambda d, i=i, x=x, tail=tail: tail(a + d * (i == 0), b + d * (i == 1), x)
            slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
            np.testing.assert_allclose(speed, (-1 if q < 0.5 else 1) * slope / density, rtol=3e-6)


def test_beta_velocity_in_single_precision(x64):
    a, b, q = np.meshgrid([0.1, 1.0, 30.0], [0.1, 1.0, 30.0], [0.05, 0.5, 0.95])
    x = scipy.special.betaincinv(a, b, q)
    inside = (x > 1e-30) & (x < 1 - 1e-6)
    arrays = [z[inside] for z in (np.log(x) - np.log1p(-x), a, b)]
    truth = beta_path.velocity(*map(jnp.asarray, arrays))
    got = beta_path.velocity(*(jnp.asarray(z, jnp.float32) for z in arrays))
    np.testing.assert_allclose(got, truth, rtol=2e-4)


@pytest.mark.filterwarnings("ignore:jax.core.pytype:DeprecationWarning")  # inside NumPyro's quantile
def test_quantiles_move_with_their_parameters(x64):
    u = jnp.array([0.03, 0.4, 0.98])  # at 0.5 sharp, NumPyro errs by 0.004
    slopes = jax.jacfwd(lambda p: quantile(npd.Beta(*p), u))((2.1, 3.2))
    at = lambda a, b: scipy.special.betaincinv(a, b, u)
    for slope, a, b in zip(slopes, (1, 0), (0, 1), strict=True):
        moved = lambda h, a=a, b=b: at(2.1 + h * a, 3.2 + h * b)
        h = 0.02  # SciPy's inverse is good to 1e-8
        truth = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
        np.testing.assert_allclose(slope, truth, rtol=1e-5)
    in_u = jax.vmap(jax.grad(lambda u: quantile(npd.Beta(2.1, 3.2), u)))(u)
    np.testing.assert_allclose(in_u, 1 / st.beta(2.1, 3.2).pdf(at(2.1, 3.2)), rtol=1e-6)


def test_sharp_von_mises_in_single_precision():
    angles = jnp.array([-0.02, 0.0, 0.015])
    low, high = von_mises.log_tails(angles, jnp.zeros(3), jnp.full(3, 1e4))
    z = np.asarray(angles) * 100
    np.testing.assert_allclose(low, st.norm.logcdf(z), rtol=2e-3)
    np.testing.assert_allclose(high, st.norm.logsf(z), rtol=2e-3)


def test_tails_far_out_stay_finite_in_single_precision():
    for law, x in ((npd.Normal(0.0, 1.0), 30.0), (npd.Gumbel(0.0, 1.0), 60.0), (npd.Cauchy(0.0, 1.0), 1e20)):
        assert all(map(jnp.isfinite, log_tails(law, x)))
        assert all(map(jnp.isfinite, log_tails(law, -x))) or isinstance(law, npd.Gumbel)


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.03, -0.03, 0.7, -2.0])
def test_growth_and_its_inverse(rate, x64):
    time, rate = jnp.array([0.01, 0.4, 3.0]), jnp.asarray(rate)
    safe = 1.0 if rate == 0 else float(rate)
    expected = time if rate == 0 else np.expm1(safe * time) / safe
    np.testing.assert_allclose(growth(rate, time), expected, rtol=1e-12)
    np.testing.assert_allclose(time_to_grow(rate, growth(rate, time)), time, rtol=1e-10)
    slope = jax.vmap(jax.grad(growth), (None, 0))(rate, time)
    direct = [scipy.integrate.quad(lambda s: s * np.exp(rate * s), 0, t)[0] for t in np.asarray(time)]
    np.testing.assert_allclose(slope, direct, rtol=1e-7)


def test_families_without_one():
    for law in (
        npd.Poisson(2.0),
        npd.Delta(0.0),
        npd.Dirichlet(jnp.ones(3)),
        npd.FoldedDistribution(npd.Normal()),
    ):
        assert not has_distribution_function(law)
    assert not has_distribution_function(npd.Normal(jnp.zeros(2), 1.0).to_event(1))
    two_to_one = npd.TransformedDistribution(npd.Normal(0.0, 1.0), npd.transforms.AbsTransform())
    assert not has_distribution_function(two_to_one)


def test_a_standardization_is_constant_along_a_path(x64):
    """Against NumPyro's own quantile function, where JAX differentiates that."""
    u = jnp.array([0.1, 0.6])
    for make in (npd.Normal, npd.Gumbel, npd.Gompertz, npd.Dagum, npd.Logistic):
        law = lambda p, make=make: make(p, *[1.3] * (len(make.arg_constraints) - 1))
        moved = lambda p, law=law: standardize(law(p), law(p).icdf(u))
        np.testing.assert_allclose(jax.jacfwd(moved)(0.7), 0.0, atol=1e-10)
