"""Pathwise derivatives of every reparameterised family, against the derivative of a quadrature.

For each float parameter the derivative of E[f(x)] is taken by central differences of a double-exponential
quadrature of f times the density, whose error is below 1e-8; the estimate is the mean of f'(x) dx/dtheta
over 30,000 draws. They must agree to 5 standard errors (false alarm 6e-7 a number). `f` is bounded (some
families have no mean), skewed, and not periodic (which an angle's gradient must not need).
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.special
import scipy.stats as st

from ppl.distributions import gamma_path
from ppl.distributions.density import log_density
from ppl.distributions.sampling import draw, is_reparameterized
from ppl.errors import UnsupportedProgram
from ppl.noise import Noise

DRAWS = 30_000
INFINITY = jnp.inf
REAL, POSITIVE, UNIT, CIRCLE = (-INFINITY, INFINITY), (0.0, INFINITY), (0.0, 1.0), (-np.pi, np.pi)
always = lambda ends: lambda *parameters: ends

# family: (from parameters to the distribution, the parameters, the ends of the support)
CASES = {
    "normal": (npd.Normal, (0.7, 1.3), always(REAL)),
    "log_normal": (npd.LogNormal, (0.2, 0.6), always(POSITIVE)),
    "half_normal": (npd.HalfNormal, (1.4,), always(POSITIVE)),
    "truncated_normal": (
        lambda loc, scale, low, high: npd.TruncatedNormal(loc, scale, low=low, high=high),
        (0.3, 1.2, -0.5, 2.0),
        lambda loc, scale, low, high: (low, high),
    ),
    "left_truncated_logistic": (
        lambda loc, scale, low: npd.LeftTruncatedDistribution(npd.Logistic(loc, scale), low),
        (0.3, 1.2, 0.8),
        lambda loc, scale, low: (low, INFINITY),
    ),
    "right_truncated_cauchy": (
        lambda loc, scale, high: npd.TruncatedCauchy(loc, scale, high=high),
        (0.3, 1.2, 1.0),
        lambda loc, scale, high: (-INFINITY, high),
    ),
    "truncated_laplace": (
        lambda loc, scale, low, high: npd.TwoSidedTruncatedDistribution(npd.Laplace(loc, scale), low, high),
        (0.3, 1.2, 0.5, 2.0),
        lambda loc, scale, low, high: (low, high),
    ),
    "truncated_soft_laplace": (
        lambda loc, scale, low: npd.LeftTruncatedDistribution(npd.SoftLaplace(loc, scale), low),
        (0.3, 1.2, -0.5),
        lambda loc, scale, low: (low, INFINITY),
    ),
    "laplace": (npd.Laplace, (-0.4, 0.8), always(REAL)),
    "soft_laplace": (npd.SoftLaplace, (-0.4, 0.8), always(REAL)),
    "asymmetric_laplace": (npd.AsymmetricLaplace, (0.1, 0.9, 1.6), always(REAL)),
    "cauchy": (npd.Cauchy, (0.5, 1.1), always(REAL)),
    "half_cauchy": (npd.HalfCauchy, (1.1,), always(POSITIVE)),
    "student_t": (npd.StudentT, (3.5, 0.5, 1.2), always(REAL)),
    "gumbel": (npd.Gumbel, (0.5, 1.2), always(REAL)),
    "logistic": (npd.Logistic, (0.5, 1.2), always(REAL)),
    "uniform": (npd.Uniform, (-1.0, 2.5), lambda low, high: (low, high)),
    "log_uniform": (npd.LogUniform, (0.5, 3.0), lambda low, high: (low, high)),
    "exponential": (npd.Exponential, (1.7,), always(POSITIVE)),
    "gamma": (npd.Gamma, (2.3, 1.7), always(POSITIVE)),
    "flat_gamma": (npd.Gamma, (0.4, 0.9), always(POSITIVE)),
    "inverse_gamma": (npd.InverseGamma, (3.3, 1.7), always(POSITIVE)),
    "chi2": (npd.Chi2, (3.7,), always(POSITIVE)),
    "beta": (npd.Beta, (2.1, 3.2), always(UNIT)),
    "horned_beta": (npd.Beta, (0.5, 0.7), always(UNIT)),
    "kumaraswamy": (npd.Kumaraswamy, (2.1, 3.2), always(UNIT)),
    "weibull": (npd.Weibull, (1.4, 2.2), always(POSITIVE)),
    "pareto": (npd.Pareto, (1.3, 3.5), lambda scale, alpha: (scale, INFINITY)),
    "levy": (npd.Levy, (0.3, 1.2), lambda loc, scale: (loc, INFINITY)),
    "gompertz": (npd.Gompertz, (0.8, 1.5), always(POSITIVE)),
    "von_mises": (npd.VonMises, (0.8, 2.3), always(CIRCLE)),
    "von_mises_near_the_cut": (npd.VonMises, (2.4, 1.5), always(CIRCLE)),
    "folded_normal": (
        lambda loc, scale: npd.FoldedDistribution(npd.Normal(loc, scale)), (0.7, 1.3), always(POSITIVE)
    ),
    "dagum": (npd.Dagum, (1.3, 2.5, 1.2), always(POSITIVE)),
    "asymmetric_laplace_quantile": (npd.AsymmetricLaplaceQuantile, (0.1, 0.9, 0.3), always(REAL)),
    "lower_truncated_power_law": (
        npd.LowerTruncatedPowerLaw, (-2.5, 0.7), lambda alpha, low: (low, INFINITY)
    ),
    "doubly_truncated_power_law": (
        npd.DoublyTruncatedPowerLaw, (-1.7, 0.7, 3.0), lambda alpha, low, high: (low, high)
    ),
    "left_truncated_gamma": (
        lambda a, b, low: npd.LeftTruncatedGamma(npd.Gamma(a, b), low),
        (2.3, 1.7, 0.5), lambda a, b, low: (low, INFINITY),
    ),
    "right_truncated_gamma": (
        lambda a, b, high: npd.RightTruncatedGamma(npd.Gamma(a, b), high),
        (2.3, 1.7, 1.5), lambda a, b, high: (0.0, high),
    ),
    "two_sided_truncated_gamma": (
        lambda a, b, low, high: npd.TwoSidedTruncatedGamma(npd.Gamma(a, b), low, high),
        (2.3, 1.7, 0.5, 2.0), lambda a, b, low, high: (low, high),
    ),
    "beta_proportion": (npd.BetaProportion, (0.4, 5.0), always(UNIT)),
    "relaxed_bernoulli": (
        lambda logits, t: npd.RelaxedBernoulliLogits(t, logits), (0.4, 0.7), always(UNIT)
    ),
    "mixture_of_betas": (
        lambda p, a, b: npd.MixtureSameFamily(
            npd.CategoricalProbs(jnp.stack([p, 1 - p])), npd.Beta(jnp.stack([a, 4.0]), jnp.stack([b, 1.5]))
        ),
        (0.4, 0.6, 1.2), always(UNIT),
    ),
    "mixture_of_students": (
        lambda t, df, loc: npd.MixtureSameFamily(
            npd.CategoricalLogits(jnp.stack([t, 0.0])),
            npd.StudentT(jnp.stack([df, 9.0]), jnp.stack([loc, 3.0])),
        ),
        (0.4, 2.6, -0.3), always(REAL),
    ),
    "mixture_of_von_mises": (
        lambda t, loc, k: npd.MixtureSameFamily(
            npd.CategoricalLogits(jnp.stack([t, 0.0])),
            npd.VonMises(jnp.stack([loc, 2.4]), jnp.stack([k, 0.8])),
        ),
        (0.4, -0.5, 2.3), always(CIRCLE),
    ),
    "affine_gamma": (
        lambda a, shift, scale: npd.TransformedDistribution(
            npd.Gamma(a, 1.0), npd.transforms.AffineTransform(shift, scale)
        ),
        (2.3, 0.4, 1.6),
        lambda a, shift, scale: (shift, INFINITY),
    ),
    "affine_student_t": (
        lambda df, loc: npd.TransformedDistribution(
            npd.StudentT(df, loc, 1.0), npd.transforms.AffineTransform(1.0, -2.0)
        ),
        (3.5, 0.4),
        always(REAL),
    ),
}  # fmt: skip


def f(x, xp=jnp):
    return xp.arctan(x - 0.5) + xp.exp(-xp.square(x - 1.0))


def nodes(low, high):
    """Points and weights of double-exponential quadrature over an interval, a half line or the line.

    Takahasi and Mori, 1974.
    """
    t = np.linspace(-4.3, 4.3, 6001)
    s, ds = 0.5 * np.pi * np.sinh(t), 0.5 * np.pi * np.cosh(t) * (t[1] - t[0])
    if np.isinf(low) and np.isinf(high):
        return np.sinh(s), np.cosh(s) * ds
    if np.isinf(high):
        return low + np.exp(2 * s), 2 * np.exp(2 * s) * ds
    if np.isinf(low):
        return high - np.exp(2 * s), 2 * np.exp(2 * s) * ds
    # The distance from the nearer end, so that a pole there is resolved.
    gap = (high - low) / (1 + np.exp(2 * np.abs(s)))
    return np.where(s < 0, low + gap, high - gap), (high - low) * 0.5 / np.cosh(s) ** 2 * ds


def integral(function, low, high):
    """The integral of `function`, compiled by the caller or not, over an interval."""
    x, dx = nodes(low, high)
    values = np.asarray(function(x)) * dx
    return np.sum(values, where=(x > low) & (x < high) & np.isfinite(values))


@jax.enable_x64(True)
def true_gradient(make, parameters, ends):
    density = jax.jit(lambda parameters, x: jnp.exp(log_density(make(*parameters), x)))

    def mean(*parameters):
        low, high = ends(*parameters)
        mass = integral(lambda x: density(parameters, x), low, high)
        np.testing.assert_allclose(mass, 1.0, rtol=1e-6)
        return integral(lambda x: f(x, np) * density(parameters, x), low, high)

    gradient = []
    for i, parameter in enumerate(parameters):
        h = 1e-3 * max(abs(parameter), 0.3)
        at = lambda step, i=i: mean(*(p + step * (i == j) for j, p in enumerate(parameters)))
        gradient.append((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h))
    return np.array(gradient)


@pytest.mark.parametrize("make, parameters, ends", CASES.values(), ids=CASES.keys())
def test_gradient_of_an_expectation(make, parameters, ends):
    assert is_reparameterized(make(*parameters))

    @jax.jit
    def gradients(key, *parameters):
        x = lambda *parameters: draw(make(*parameters), Noise(key), (DRAWS,))
        along = lambda tangent: jax.jvp(lambda *p: f(x(*p)), parameters, tuple(tangent))[1]
        return jax.vmap(along)(jnp.eye(len(parameters)))  # the draws are the same for all

    estimates = np.asarray(gradients(jax.random.key(7), *map(jnp.float32, parameters)), np.float64)
    truth = true_gradient(make, parameters, ends)
    error = estimates.std(axis=1) / np.sqrt(estimates.shape[1])
    assert np.all(np.abs(estimates.mean(axis=1) - truth) < 5 * error + 1e-6), (
        estimates.mean(axis=1),
        truth,
        error,
    )


def test_gradients_of_vector_families_against_moments():
    """E[x x'] of normals and E[log x] of a Dirichlet have closed-form derivatives."""
    loc, tril = jnp.array([0.5, -1.0]), jnp.array([[1.2, 0.0], [0.3, 0.9]])
    count, key = DRAWS, jax.random.key(8)

    def second(loc, tril):
        x = draw(npd.MultivariateNormal(loc, scale_tril=tril), Noise(key), (count,))
        return x[:, 0] * x[:, 1]

    expected = lambda loc, tril: loc[0] * loc[1] + (tril @ tril.T)[0, 1]
    direction = jnp.array([0.4, -0.7]), jnp.array([[0.5, 0.0], [0.2, -0.3]])
    check(tangent(second, (loc, tril), direction), jax.jvp(expected, (loc, tril), direction)[1])

    factor, diagonal = jnp.array([[1.0], [0.5]]), jnp.array([0.3, 0.6])

    def low_rank(factor, diagonal):
        x = draw(npd.LowRankMultivariateNormal(loc, factor, diagonal), Noise(key), (count,))
        return x[:, 0] ** 2 * x[:, 1]

    def low_rank_mean(factor, diagonal):
        covariance = factor @ factor.T + jnp.diag(diagonal)
        return (loc[0] ** 2 + covariance[0, 0]) * loc[1] + 2 * loc[0] * covariance[0, 1]

    direction = jnp.array([[0.3], [-0.2]]), jnp.array([0.4, 0.7])
    got = tangent(low_rank, (factor, diagonal), direction)
    check(got, jax.jvp(low_rank_mean, (factor, diagonal), direction)[1])

    alpha, step = jnp.array([1.5, 0.7, 2.8]), jnp.array([1.0, -0.4, 0.3])
    logs = lambda alpha: jnp.log(draw(npd.Dirichlet(alpha), Noise(key), (count,)))[:, 1]
    mean = lambda alpha: jax.scipy.special.digamma(alpha[1]) - jax.scipy.special.digamma(alpha.sum())
    check(tangent(logs, (alpha,), (step,)), jax.jvp(mean, (alpha,), (step,))[1])

    def t(df):
        x = draw(npd.MultivariateStudentT(df, loc, tril), Noise(key), (count,))
        return jnp.log1p(jnp.square(x - loc) @ jnp.array([1 / 1.44, 0.0]))

    with jax.enable_x64(True):

        def margin(df):
            law = npd.StudentT(df, 0.0, 1.0)
            return float(integral(lambda x: jnp.log1p(x**2) * jnp.exp(log_density(law, x)), *REAL))

        truth = (margin(6.501) - margin(6.499)) / 0.002
    check(tangent(t, (6.5,), (1.0,)), truth)


def tangent(function, at, direction):
    """The derivative of each draw along a direction, compiled as one function."""
    return jax.jit(lambda at, direction: jax.jvp(function, at, direction)[1])(at, direction)


def check(estimates, truth):
    estimates = np.asarray(estimates, np.float64)
    error = estimates.std() / np.sqrt(estimates.size)
    assert abs(estimates.mean() - truth) < 5 * error, (estimates.mean(), truth, error)


@pytest.mark.parametrize("concentration", [0.01, 0.3, 4.0, 200.0])
def test_log_gamma_velocity_follows_the_distribution_function(concentration, x64):
    """By central differences of log x at fixed F(x; a): SciPy's inverse, or in the tail the power law."""
    a, h = concentration, 1e-4 * concentration
    for q in (0.01, 0.3, 0.9):
        log_x = (
            np.log(scipy.special.gammaincinv(a, q))
            if a > 0.2
            else (np.log(q) + scipy.special.gammaln(a + 1)) / a
        )
        inverse = lambda a, q=q: (
            np.log(scipy.special.gammaincinv(a, q))
            if concentration > 0.2
            else (np.log(q) + scipy.special.gammaln(a + 1)) / a
        )
        if a < 0.2 and log_x > -25:
            continue  # the power law is not exact here
        truth = (8 * (inverse(a + h) - inverse(a - h)) - (inverse(a + 2 * h) - inverse(a - 2 * h))) / (12 * h)
        (got,) = gamma_path.velocity(jnp.asarray(log_x), jnp.asarray(a))
        np.testing.assert_allclose(got, truth, rtol=1e-6)


def test_log_gamma_velocity_is_continuous_where_the_power_law_takes_over(x64):
    around = jnp.array([-30.0 - 1e-9, -30.0 + 1e-9])
    below, above = gamma_path.velocity(around, jnp.full(2, 0.05))[0]
    np.testing.assert_allclose(below, above, rtol=1e-8)


IMPLICIT = {
    "gamma": lambda t: npd.Gamma(t, 1.0),
    "inverse_gamma": lambda t: npd.InverseGamma(t, 1.0),
    "beta": lambda t: npd.Beta(t, 2.0),
    "dirichlet": lambda t: npd.Dirichlet(jnp.array([1.0, 2.0]) * t),
    "student_t": lambda t: npd.StudentT(t, 0.0, 1.0),
    "multivariate_student_t": lambda t: npd.MultivariateStudentT(t, jnp.zeros(2), jnp.eye(2)),
    "von_mises": lambda t: npd.VonMises(0.0, t),
    "wishart": lambda t: npd.Wishart(t + 2.0, scale_tril=jnp.eye(2)),
    "lkj": lambda t: npd.LKJCholesky(3, t),
}


@pytest.mark.parametrize("family", IMPLICIT)
def test_a_second_derivative_is_refused_where_only_the_first_is_known(family):
    value = lambda t: jnp.sum(jnp.sin(draw(IMPLICIT[family](t), Noise(jax.random.key(0)))))
    assert jnp.isfinite(jax.jit(jax.grad(jax.checkpoint(value)))(2.0))
    for twice in (jax.hessian(value), jax.grad(jax.grad(value)), jax.jit(jax.jacfwd(jax.grad(value)))):
        with pytest.raises(UnsupportedProgram, match=rf"second derivative .* {family}, .*Reinforce\(\)"):
            jax.eval_shape(twice, 2.0)


def test_a_second_derivative_in_other_parameters_is_given():
    value = lambda rate: draw(npd.Gamma(2.0, rate), Noise(jax.random.key(0)))
    x = value(1.5)
    np.testing.assert_allclose(jax.hessian(value)(1.5), 2 * x / 1.5**2, rtol=1e-5)


def test_discrete_draws_carry_no_derivative(discrete):
    assert not is_reparameterized(discrete.make())


def test_a_mixture_that_is_not_reparameterized_carries_no_derivative():
    mixture = lambda rate: npd.MixtureSameFamily(
        npd.CategoricalProbs(jnp.ones(2) / 2), npd.FoldedDistribution(npd.Normal(rate * jnp.ones(2), 1.0))
    )
    assert not is_reparameterized(mixture(0.3))
    assert jax.grad(lambda rate: draw(mixture(rate), Noise(jax.random.key(0))))(0.3) == 0.0


@pytest.mark.filterwarnings("ignore:jax.core.pytype:DeprecationWarning")  # inside NumPyro's quantile
def test_a_truncated_student_moves_as_its_distribution_function_says(x64):
    """dx/dtheta against SciPy's quantiles, by central differences."""
    make = lambda df, loc, low: npd.LeftTruncatedDistribution(npd.StudentT(df, loc, 1.2), low)
    parameters, key = (3.5, 0.3, -0.2), jax.random.key(0)
    assert is_reparameterized(make(*parameters))
    moving = jax.value_and_grad(lambda p, key: draw(make(*p), Noise(key)))
    x, slopes = jax.jit(jax.vmap(moving, (None, 0)))(parameters, jax.random.split(key, 5))

    def moved(i, h):
        law, low = st.t(3.5, 0.3, 1.2), -0.2
        u = (law.cdf(x) - law.cdf(low)) / law.sf(low)
        df, loc, low = (p + h * (i == j) for j, p in enumerate(parameters))
        law = st.t(df, loc, 1.2)
        return law.isf((1 - u) * law.sf(low))

    for i, slope in enumerate(slopes):
        np.testing.assert_allclose(slope, (moved(i, 1e-3) - moved(i, -1e-3)) / 2e-3, rtol=1e-4)


def test_gradients_of_matrix_families_against_moments():
    count, key = DRAWS, jax.random.key(9)
    tril = jnp.array([[1.2, 0.0], [0.3, 0.9]])
    step = jnp.array([[0.4, 0.0], [-0.2, 0.3]])

    def wishart(cls, sign):
        def log_determinant(df, tril):
            x = draw(cls(df, scale_tril=tril), Noise(key), (count,))
            return jnp.linalg.slogdet(x)[1] + x[:, 0, 1] * (sign > 0)

        def mean(df, tril):  # of the log determinant of a Wishart matrix, and of an entry
            entropy = sum(jax.scipy.special.digamma((df - i) / 2) + jnp.log(2.0) for i in range(2))
            scale = tril @ tril.T
            return sign * entropy + jnp.linalg.slogdet(scale)[1] + df * scale[0, 1] * (sign > 0)

        got = tangent(log_determinant, (4.5, tril), (1.0, step))
        check(got, jax.jvp(mean, (4.5, tril), (1.0, step))[1])

    wishart(npd.Wishart, 1)
    wishart(npd.InverseWishart, -1)
    for method in ("onion", "cvine"):  # twice an entry's beta draw, less one: concentration a + (d - 2) / 2
        square = lambda a, method=method: draw(npd.LKJ(3, a, method), Noise(key), (count,))[:, 2, 0] ** 2
        check(tangent(square, (1.7,), (1.0,)), jax.grad(lambda a: 1 / (2 * a + 2))(1.7))

    adjacency = np.array([[0.0, 1, 1], [1, 0, 0], [1, 0, 0]])

    def second(rho, precision):
        x = draw(npd.CAR(jnp.zeros(3), rho, precision, adjacency), Noise(key), (count,))
        return x[:, 0] * x[:, 1]

    covariance = lambda rho, precision: jnp.linalg.inv(
        precision * (jnp.diag(adjacency.sum(0)) - rho * adjacency)
    )[0, 1]
    got = tangent(second, (0.4, 1.2), (1.0, -0.7))
    check(got, jax.jvp(covariance, (0.4, 1.2), (1.0, -0.7))[1])


def test_gradients_of_a_copula_against_its_margins():
    """The margins' own derivatives, and E[n n'] of the normal numbers below."""
    count, key = DRAWS, jax.random.key(10)

    def law(loc, scale, rho):
        return npd.GaussianCopula(npd.Gumbel(loc, scale), jnp.eye(2) + rho * jnp.array([[0.0, 1], [1, 0]]))

    f = lambda loc, scale: jnp.tanh(draw(law(loc, scale, 0.4), Noise(key), (count,))[:, 1])
    with jax.enable_x64(True):
        mean = lambda loc: float(
            integral(lambda x: jnp.tanh(x) * jnp.exp(log_density(npd.Gumbel(loc, 1.2), x)), *REAL)
        )
        truth = (mean(0.301) - mean(0.299)) / 0.002
    check(tangent(f, (0.3, 1.2), (1.0, 0.0)), truth)

    def product(rho):
        x = draw(law(0.3, 1.2, rho), Noise(key), (count,))
        normal = jax.scipy.special.ndtri(jnp.exp(-jnp.exp(-(x - 0.3) / 1.2)))
        return normal[:, 0] * normal[:, 1]

    check(tangent(product, (0.4,), (1.0,)), 1.0)


def test_scipy_agrees_that_the_quadrature_is_right():
    """The oracle of this file, checked once against a moment that SciPy knows."""
    with jax.enable_x64(True):
        got = float(integral(lambda x: f(x) * jnp.exp(log_density(npd.Gamma(2.3, 1.7), x)), *POSITIVE))
    expected = st.gamma(2.3, scale=1 / 1.7).expect(lambda x: np.arctan(x - 0.5) + np.exp(-((x - 1) ** 2)))
    np.testing.assert_allclose(got, expected, rtol=1e-8)
