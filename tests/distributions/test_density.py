"""Densities against SciPy, and what happens outside the support."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.stats as st

from ppl.distributions.density import log_density, support_values
from ppl.distributions.ends import moving_support
from ppl.distributions.flip import Flip

QUANTILES = np.array([1e-4, 0.03, 0.2, 0.5, 0.77, 0.99, 0.9999])


def rebuilt(distribution):
    """The distribution as a staged program holds it: rebuilt from its leaves."""
    leaves, tree = jax.tree.flatten(distribution)
    return jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in leaves])


def test_continuous_density_is_scipys(continuous_in_scipy, x64):
    continuous = continuous_in_scipy
    points = continuous.scipy.ppf(QUANTILES)
    got = log_density(continuous.make(), points)
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, continuous.scipy.logpdf(points), rtol=1e-10, atol=1e-10)


def test_discrete_density_is_scipys(discrete_in_scipy, x64):
    discrete = discrete_in_scipy
    points = np.unique(discrete.scipy.ppf(QUANTILES)).astype(int)
    np.testing.assert_allclose(
        log_density(discrete.make(), points), discrete.scipy.logpmf(points), rtol=1e-10, atol=1e-10
    )


def test_densities_without_a_scalar_law_in_scipy(x64):
    angles = np.linspace(-3.1, 3.1, 9)
    # SciPy's von Mises lives on the line; its density is periodic.
    np.testing.assert_allclose(
        log_density(npd.VonMises(0.8, 2.3), angles), st.vonmises(2.3, 0.8).logpdf(angles), rtol=1e-10
    )
    weights, means, scales = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.5, 1.0])
    mixture = npd.MixtureSameFamily(npd.CategoricalProbs(weights), npd.Normal(means, scales))
    expected = np.log(st.norm(means, scales).pdf(angles[:, None]) @ weights)
    np.testing.assert_allclose(log_density(mixture, angles), expected, rtol=1e-10)
    inflated = np.log(0.3 + 0.7 * np.exp(-2.0)), np.log(0.7) + st.poisson(2.0).logpmf(3)
    got = log_density(npd.ZeroInflatedPoisson(0.3, 2.0), jnp.array([0, 3]))
    np.testing.assert_allclose(got, inflated, rtol=1e-10)
    cauchy = st.cauchy(0.3, 1.2)
    got = log_density(npd.TruncatedCauchy(0.3, 1.2, high=1.0), -0.7)
    np.testing.assert_allclose(got, cauchy.logpdf(-0.7) - cauchy.logcdf(1.0), rtol=1e-10)


def test_vector_densities_are_scipys(x64):
    loc = np.array([0.5, -1.0, 0.2])
    tril = np.array([[1.2, 0.0, 0.0], [0.3, 0.9, 0.0], [-0.4, 0.2, 0.7]])
    x, share, counts = np.array([0.1, 0.4, -0.6]), np.array([0.2, 0.3, 0.5]), np.array([1, 2, 1])
    factor, diagonal = tril[:, :2], np.array([0.5, 0.3, 0.2])
    walk = np.minimum.outer(np.arange(1, 4), np.arange(1, 4)) * 0.64
    alpha, rates = np.array([1.5, 0.7, 2.8]), np.array([1.5, 2.5, 3.5])
    cases = [
        (
            npd.MultivariateNormal(loc, scale_tril=tril),
            x,
            st.multivariate_normal(loc, tril @ tril.T).logpdf(x),
        ),
        (
            npd.LowRankMultivariateNormal(loc, factor, diagonal),
            x,
            st.multivariate_normal(loc, factor @ factor.T + np.diag(diagonal)).logpdf(x),
        ),
        (npd.MultivariateStudentT(6.5, loc, tril), x, st.multivariate_t(loc, tril @ tril.T, 6.5).logpdf(x)),
        (npd.GaussianRandomWalk(0.8, 3), x, st.multivariate_normal(np.zeros(3), walk).logpdf(x)),
        (npd.Dirichlet(alpha), share, st.dirichlet(alpha).logpdf(share)),
        (npd.MultinomialProbs(share, 4), counts, st.multinomial(4, share).logpmf(counts)),
        (npd.Gamma(rates, 1.3).to_event(1), share, st.gamma(rates, scale=1 / 1.3).logpdf(share).sum()),
    ]
    for distribution, value, expected in cases:
        np.testing.assert_allclose(log_density(distribution, value), expected, rtol=1e-10)


def test_inside_the_support_the_number_is_numpyros(example):
    distribution = rebuilt(example.make())
    value = example.make().sample(jax.random.key(0), (5,))
    np.testing.assert_array_equal(log_density(distribution, value), distribution.log_prob(value))


def test_outside_the_support_it_is_minus_infinity_with_zero_gradient(example):
    for point in example.outside:
        distribution = rebuilt(example.make())
        assert log_density(distribution, jnp.asarray(point)) == -jnp.inf
        assert jax.jit(log_density)(distribution, jnp.asarray(point)) == -jnp.inf
        float_point = jnp.asarray(point, float)
        gradients = jax.grad(log_density, argnums=(0, 1), allow_int=True)(distribution, float_point)
        for gradient in jax.tree.leaves(gradients):
            if gradient.dtype != jax.dtypes.float0:
                np.testing.assert_array_equal(gradient, 0.0)


def test_one_instance_outside_leaves_the_others_alone():
    rate = jnp.array([1.0, 2.0, 3.0])
    value = jnp.array([0.5, -0.5, 0.7])
    got = log_density(npd.Exponential(rate), value)
    np.testing.assert_allclose(got, [-0.5, -np.inf, np.log(3) - 2.1], rtol=1e-6)
    gradient = jax.grad(lambda r: jnp.where(value > 0, log_density(npd.Exponential(r), value), 0).sum())(rate)
    np.testing.assert_allclose(gradient, [0.5, 0.0, 1 / 3 - 0.7], rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: npd.Laplace(0.0, 1.0),
        lambda: npd.StudentT(3.0, 0.0, 1.0),
        lambda: npd.MultivariateNormal(jnp.zeros(2), jnp.eye(2)),
        lambda: npd.GaussianRandomWalk(1.0, 2),
    ],
)
def test_a_family_on_the_whole_space_costs_nothing(make):
    value = jnp.ones(make().shape())

    def lowered(score):
        def program(v):
            return score(rebuilt(make()), v)

        return jax.jit(program).lower(value).as_text()

    assert lowered(log_density) == lowered(lambda d, v: d.log_prob(v))


def test_the_normal_density_has_the_derivatives_of_numpyros(x64):
    point = jnp.array([0.3, -2.0]), jnp.array(0.7), jnp.array([[0.4], [3.0]])
    ours = lambda x, loc, scale: jnp.sum(log_density(npd.Normal(loc, scale), x) ** 2)
    theirs = lambda x, loc, scale: jnp.sum(npd.Normal(loc, scale).log_prob(x) ** 2)
    every = (0, 1, 2)
    both = lambda of: jax.jit(lambda p: (of(*p), jax.grad(of, every)(*p), jax.hessian(of, every)(*p)))(point)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), both(ours), both(theirs))
    # Whole numbers, and parameters without a derivative.
    slope = jax.grad(lambda scale: log_density(npd.Normal(1, scale), 3))(2.0)
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)
    assert jax.grad(lambda x: log_density(npd.Normal(1, 2), x))(3.0) == -0.5


def test_a_normal_class_with_a_density_of_its_own_keeps_it():
    class Half(npd.Normal):
        def log_prob(self, value):
            return super().log_prob(value) / 2

    assert log_density(Half(0.0, 1.0), 1.0) == npd.Normal(0.0, 1.0).log_prob(1.0) / 2


def test_narrow_floats_are_scored_in_float32():
    loc, scale = jnp.bfloat16(0.3), jnp.bfloat16(1.7)
    got = log_density(npd.Normal(loc, scale), jnp.bfloat16(2.2))
    assert got.dtype == jnp.float32
    expected = st.norm(float(loc), float(scale)).logpdf(float(jnp.bfloat16(2.2)))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_masked_instance_has_density_one_wherever_it_is():
    masked = npd.Exponential(jnp.ones(3)).mask(jnp.array([True, False, True])).to_event(1)
    np.testing.assert_allclose(log_density(masked, jnp.array([1.0, -4.0, 2.0])), -3.0, rtol=1e-6)


def test_long_simplex_of_float32_passes():
    share = jax.nn.softmax(3 * jax.random.normal(jax.random.key(0), (50, 4000)))
    assert jnp.all(jnp.isfinite(log_density(npd.Dirichlet(jnp.ones(4000)), share)))


def test_affine_map_of_a_bounded_base_ends_where_its_range_ends():
    # NumPyro calls the support of this distribution the whole line.
    shifted = rebuilt(
        npd.TransformedDistribution(npd.Exponential(1.0), npd.transforms.AffineTransform(3.0, 2.0))
    )
    assert shifted.log_prob(2.0) > -1.0
    assert log_density(shifted, 2.0) == -jnp.inf
    np.testing.assert_array_equal(
        log_density(shifted.expand([2]).to_event(1), jnp.array([4.0, 2.0])), -jnp.inf
    )


def brought(base, together=False):
    """A distribution on (1, 3) whose support NumPyro calls the whole line."""
    steps = [npd.transforms.SigmoidTransform(), npd.transforms.AffineTransform(1.0, 2.0)]
    return npd.TransformedDistribution(base, [npd.transforms.ComposeTransform(steps)] if together else steps)


@pytest.mark.parametrize("together", [False, True])
def test_a_line_brought_to_an_interval_ends_where_the_interval_ends(together):
    """A logistic draw is brought to a uniform one."""
    law = rebuilt(brought(npd.Logistic(0.0, 1.0), together))
    x = jnp.array([0.5, 1.2, 2.9, 3.5])
    expected = [-jnp.inf, -jnp.log(2.0), -jnp.log(2.0), -jnp.inf]
    np.testing.assert_allclose(log_density(law, x), expected, rtol=1e-5)
    pairs = log_density(law.expand([2]).to_event(1), jnp.array([[1.2, 2.9], [1.2, 3.5]]))
    np.testing.assert_allclose(pairs, [-2 * jnp.log(2.0), -jnp.inf], rtol=1e-5)


@pytest.mark.parametrize(
    "distribution, expected",
    [
        (Flip(0.3), [False, True]),
        (npd.BernoulliLogits(jnp.zeros(4)), [0, 1]),
        (npd.CategoricalProbs(jnp.ones((2, 3)) / 3), [0, 1, 2]),
        (npd.CategoricalLogits(jnp.zeros(4)), [0, 1, 2, 3]),
        (npd.BinomialProbs(0.3, 3), [0, 1, 2, 3]),
        (npd.DiscreteUniform(-1, 2), [-1, 0, 1, 2]),
        (npd.BernoulliProbs(0.3).expand([5]), [0, 1]),
        (npd.BernoulliProbs(jnp.full(2, 0.3)).to_event(1), [[0, 0], [0, 1], [1, 0], [1, 1]]),
        (npd.DiscreteUniform(0, jnp.array([1, 2])), None),
        (npd.BernoulliProbs(jnp.full(20, 0.3)).to_event(1), None),
        (npd.Poisson(1.0), None),
        (npd.Normal(0.0, 1.0), None),
    ],
)
def test_finite_supports(distribution, expected):
    got = support_values(distribution)
    if expected is None:
        assert got is None
    else:
        np.testing.assert_array_equal(got, expected)


def test_traced_bounds_give_no_finite_support():
    def traced(count):
        assert support_values(npd.BinomialProbs(0.5, count)) is None
        return count

    jax.jit(traced)(3)


@pytest.mark.parametrize(
    "distribution, expected",
    [
        (npd.Uniform(0.0, 1.0), ("low", "high")),
        (npd.Pareto(1.0, 2.0), ("scale",)),
        (npd.Levy(0.0, 1.0), ("loc",)),
        (npd.TruncatedNormal(0.0, 1.0, high=2.0), ("high",)),
        (npd.LogUniform(1.0, 2.0), ("low", "high")),
        (npd.Uniform(jnp.zeros(2), 1.0).to_event(1), ("base_dist",)),
        (
            npd.TransformedDistribution(npd.Gamma(2.0), npd.transforms.AffineTransform(1.0, 2.0)),
            ("transforms",),
        ),
        (npd.TransformedDistribution(npd.Normal(), npd.transforms.AffineTransform(1.0, 2.0)), ()),
        (brought(npd.Logistic(0.0, 1.0)), ("transforms",)),
        (brought(npd.Logistic(0.0, 1.0), together=True), ("transforms",)),
        (brought(npd.Normal(0.0, 1.0)), ()),  # its density falls to zero at the ends
        (npd.InverseGamma(2.0), ()),
        (npd.LogNormal(0.0, 1.0), ()),
        (npd.Beta(2.0, 2.0), ()),
        (npd.DiscreteUniform(0, 3), ()),
        (npd.BinomialProbs(0.5, 3), ()),
    ],
)
def test_parameters_that_move_the_support(distribution, expected):
    assert moving_support(distribution) == expected
    assert moving_support(rebuilt(distribution)) == expected
