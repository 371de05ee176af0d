"""Draws against SciPy's distribution functions, lanes, dtypes, and families without a rule.

A goodness-of-fit test fails below p = 1e-6, which is its false-alarm rate; the keys are fixed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.stats as st

from ppl.distributions.density import log_density
from ppl.distributions.sampling import draw, is_reparameterized
from ppl.noise import Noise, Token

COUNT = 20_000
FALSE_ALARM = 1e-6


def sample(distribution, shape=(COUNT,), seed=0):
    return jax.jit(lambda d, key: draw(d, Noise(key), shape))(distribution, jax.random.key(seed))


def test_continuous_draws_follow_scipys_law(continuous_in_scipy):
    continuous = continuous_in_scipy
    x = np.asarray(sample(continuous.make()), np.float64)
    assert st.kstest(x, continuous.scipy.cdf).pvalue > FALSE_ALARM


def test_discrete_draws_follow_scipys_law(discrete_in_scipy):
    discrete = discrete_in_scipy
    x = np.asarray(sample(discrete.make())).astype(int)
    low, high = (int(end) for end in discrete.scipy.ppf([1e-3, 1 - 1e-3]))
    cuts = np.arange(max(low, discrete.scipy.support()[0]), high + 1)
    expected = np.diff(np.concatenate([[0.0], discrete.scipy.cdf(cuts[:-1]), [1.0]])) * COUNT
    observed = np.histogram(np.clip(x, cuts[0], cuts[-1]), np.append(cuts, cuts[-1] + 1))[0]
    assert st.chisquare(observed, expected).pvalue > FALSE_ALARM


def test_draws_without_a_scalar_law_in_scipy():
    weights, means, scales = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.5, 1.0])
    mixture = npd.MixtureSameFamily(npd.CategoricalProbs(weights), npd.Normal(means, scales))
    cdf = lambda x: st.norm(means, scales).cdf(np.asarray(x)[:, None]) @ weights
    assert st.kstest(np.asarray(sample(mixture)), cdf).pvalue > FALSE_ALARM
    cut = st.cauchy(0.3, 1.2)
    x = sample(npd.TruncatedCauchy(0.3, 1.2, high=1.0))
    assert st.kstest(np.asarray(x), lambda x: cut.cdf(x) / cut.cdf(1.0)).pvalue > FALSE_ALARM
    zeros = (sample(npd.ZeroInflatedPoisson(0.3, 2.0)) == 0).sum()
    assert st.binomtest(int(zeros), COUNT, 0.3 + 0.7 * np.exp(-2.0)).pvalue > FALSE_ALARM


@pytest.mark.parametrize("concentration", [0.05, 2.3, 80.0, 2e4])
def test_von_mises_draws_follow_their_law_however_sharp(concentration):
    x = np.asarray(sample(npd.VonMises(0.8, concentration)), np.float64)
    centered = (x - np.float32(0.8) + np.pi) % (2 * np.pi) - np.pi
    if concentration < 50:
        law = st.vonmises(concentration).cdf
    else:  # sqrt(k) times the angle is normal up to a relative 1 / 8k, far below what 20,000 draws show
        law = st.norm(0, 1 / np.sqrt(concentration - 0.5)).cdf
    assert st.kstest(centered, law).pvalue > FALSE_ALARM


def test_vector_draws_have_the_right_margins():
    loc = np.array([0.5, -1.0, 0.2])
    tril = np.array([[1.2, 0.0, 0.0], [0.3, 0.9, 0.0], [-0.4, 0.2, 0.7]])
    factor, diagonal = tril[:, :2], np.array([0.5, 0.3, 0.2])
    low_rank = np.linalg.cholesky(factor @ factor.T + np.diag(diagonal))
    walk = np.linalg.cholesky(np.minimum.outer(np.arange(1, 4), np.arange(1, 4)) * 0.64)
    whitened = [
        (npd.MultivariateNormal(loc, scale_tril=tril), loc, tril),
        (npd.LowRankMultivariateNormal(loc, factor, diagonal), loc, low_rank),
        (npd.GaussianRandomWalk(0.8, 3), np.zeros(3), walk),
    ]
    for distribution, mean, root in whitened:
        z = np.linalg.solve(root, (np.asarray(sample(distribution)) - mean).T)
        assert st.kstest(np.sum(z**2, axis=0), st.chi2(3).cdf).pvalue > FALSE_ALARM
        assert st.kstest(z.sum(0) / np.sqrt(3), st.norm.cdf).pvalue > FALSE_ALARM
    z = np.linalg.solve(tril, (np.asarray(sample(npd.MultivariateStudentT(6.5, loc, tril))) - loc).T)
    assert st.kstest(np.sum(z**2, axis=0) / 3, st.f(3, 6.5).cdf).pvalue > FALSE_ALARM
    share = np.asarray(sample(npd.Dirichlet(jnp.array([1.5, 0.7, 2.8]))))
    for i, alpha in enumerate([1.5, 0.7, 2.8]):
        assert st.kstest(share[:, i], st.beta(alpha, 5.0 - alpha).cdf).pvalue > FALSE_ALARM


def test_matrix_draws_and_copulas_have_the_right_margins():
    tril = np.array([[1.2, 0.0, 0.0], [0.3, 0.9, 0.0], [-0.4, 0.2, 0.7]])
    scale, df = tril @ tril.T, 4.5
    x = np.asarray(sample(npd.Wishart(df, scale_tril=tril)))
    assert st.kstest(x[:, 2, 2] / scale[2, 2], st.chi2(df).cdf).pvalue > FALSE_ALARM
    sums = x.sum((1, 2)) / scale.sum()  # a'Wa / a'Sa for any a
    assert st.kstest(sums, st.chi2(df).cdf).pvalue > FALSE_ALARM
    x = np.linalg.inv(np.asarray(sample(npd.InverseWishart(df, scale_tril=tril)), np.float64))
    assert st.kstest(x[:, 2, 2] / np.linalg.inv(scale)[2, 2], st.chi2(df).cdf).pvalue > FALSE_ALARM
    assert st.kstest(x.sum((1, 2)) / np.linalg.inv(scale).sum(), st.chi2(df).cdf).pvalue > FALSE_ALARM
    for method in ("onion", "cvine"):  # each correlation alike, one in d = 3 dimensions
        x = np.asarray(sample(npd.LKJ(3, 1.7, method)))
        for i, j in ((1, 0), (2, 0), (2, 1)):
            assert st.kstest((x[:, i, j] + 1) / 2, st.beta(2.2, 2.2).cdf).pvalue > FALSE_ALARM
    adjacency = np.array([[0.0, 1, 1], [1, 0, 0], [1, 0, 0]])
    root = np.linalg.cholesky(1.2 * (np.diag(adjacency.sum(0)) - 0.4 * adjacency))
    z = root.T @ np.asarray(sample(npd.CAR(np.zeros(3), 0.4, 1.2, adjacency))).T
    assert st.kstest(np.sum(z**2, axis=0), st.chi2(3).cdf).pvalue > FALSE_ALARM
    assert st.kstest(z.sum(0) / np.sqrt(3), st.norm.cdf).pvalue > FALSE_ALARM
    x = np.asarray(sample(npd.GaussianCopula(npd.Gumbel(0.3, 1.2), np.array([[1.0, 0.4], [0.4, 1.0]]))))
    z = st.norm.ppf(st.gumbel_r(0.3, 1.2).cdf(x)) @ np.linalg.inv(np.linalg.cholesky([[1, 0.4], [0.4, 1]])).T
    assert st.kstest(np.sum(z**2, axis=1), st.chi2(2).cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("low, high", [(0.5, None), (None, 1.5), (0.5, 2.0)])
def test_truncated_gamma_draws_follow_their_law(low, high):
    base, law = npd.Gamma(2.3, 1.7), st.gamma(2.3, scale=1 / 1.7)
    if high is None:
        cut = npd.LeftTruncatedGamma(base, low)
    elif low is None:
        cut = npd.RightTruncatedGamma(base, high)
    else:
        cut = npd.TwoSidedTruncatedGamma(base, low, high)
    below, above = law.cdf(low or 0.0), 1.0 if high is None else law.cdf(high)
    x = np.asarray(sample(cut), np.float64)
    assert st.kstest(x, lambda x: (law.cdf(x) - below) / (above - below)).pvalue > FALSE_ALARM


def test_draws_have_a_shape_and_a_dtype_and_are_inside_their_support(example):
    distribution = example.make()
    x = sample(distribution, (100, 200))
    assert x.shape == (100, 200, *distribution.batch_shape, *distribution.event_shape)
    assert jax.jit(lambda x: jnp.all(jnp.isfinite(log_density(distribution, x))))(x)
    numpyros = jax.eval_shape(distribution.sample, jax.random.key(0)).dtype
    geometric = isinstance(distribution, npd.discrete.GeometricProbs | npd.discrete.GeometricLogits)
    assert x.dtype == (jnp.int32 if geometric else numpyros)  # NumPyro counts failures in floats


@pytest.mark.parametrize("make", [npd.Normal, npd.Laplace, npd.Gamma, npd.VonMises, npd.Beta, npd.Uniform])
def test_a_draw_has_the_dtype_of_its_parameters(make):
    parameters = jnp.bfloat16(0.5), jnp.bfloat16(2.0)
    assert draw(make(*parameters), Noise(jax.random.key(0))).dtype == jnp.bfloat16
    with jax.enable_x64(True):
        assert draw(make(0.5, 2.0), Noise(jax.random.key(0))).dtype == jnp.float64


def test_lanes_of_a_mapped_token_are_independent(example):
    """Neither do lanes repeat each other, nor does their law differ from that of one draw."""
    distribution = jax.tree.map(jnp.asarray, example.make())
    lanes = jnp.zeros(2000, bool)
    lane = lambda token: draw(distribution, Noise(jax.random.key(3), Token(token)))
    together = lambda: (jax.vmap(lane)(lanes), draw(distribution, Noise(jax.random.key(4)), (2000,)))
    x, alone = (np.asarray(some, np.float64).reshape(2000, -1) for some in jax.jit(together)())
    moving = np.argmax(np.ptp(alone, axis=0) > 0)  # the corner of a correlation matrix does not
    x, alone = x[:, moving], alone[:, moving]
    assert st.ks_2samp(x, alone, method="asymp").pvalue > FALSE_ALARM
    ranks = st.rankdata(x)
    assert abs(np.corrcoef(ranks[1:], ranks[:-1])[0, 1]) * np.sqrt(1999) < 5  # false alarm 6e-7


def test_many_draws_of_one_category_take_no_square_of_memory():
    """By inversion beyond `noise.MANY` numbers: the law by chi-square, and nothing of probability zero."""
    count, draws = 500, 40_000
    weights = jnp.where(jnp.arange(count) % 7 == 3, 0.0, jnp.exp(jnp.linspace(-2.0, 3.0, count)))
    law = npd.CategoricalProbs(weights / weights.sum())
    one = lambda token: draw(law, Noise(jax.random.key(2), Token(token)))
    compiled = jax.jit(jax.vmap(one)).lower(jnp.zeros(draws, bool)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 20 * 4 * draws
    observed = np.bincount(np.asarray(compiled(jnp.zeros(draws, bool))), minlength=count)
    chances = np.asarray(law.probs, np.float64)
    possible = chances > 0
    assert not observed[~possible].any()
    expected = chances[possible] / chances[possible].sum() * draws
    assert st.chisquare(observed[possible], expected).pvalue > FALSE_ALARM


def test_categories_that_share_their_law_along_some_axes():
    """Lanes within rows of their own logits, and rows within lanes: each row has its own law."""
    logits = jnp.array([[0.0, 1.0, -1.0], [2.0, 0.0, -jnp.inf]])
    row = lambda token, logits: draw(npd.CategoricalLogits(logits), Noise(jax.random.key(5), Token(token)))
    lanes = jnp.zeros((2, 30_000), bool)
    inner = jax.jit(jax.vmap(jax.vmap(row, (0, None))))(lanes, logits)
    outer = jax.jit(jax.vmap(jax.vmap(row), (0, None)))(lanes.T, logits).T
    for x in (inner, outer):
        for index, chances in zip(np.asarray(x), np.asarray(jax.nn.softmax(logits), np.float64), strict=True):
            observed, possible = np.bincount(index, minlength=3), chances > 0
            assert observed[~possible].sum() == 0
            expected = chances[possible] / chances[possible].sum() * len(index)
            assert st.chisquare(observed[possible], expected).pvalue > FALSE_ALARM


def test_lanes_of_a_parameter_alone_share_their_noise():
    locs = jnp.arange(4.0)
    x = jax.vmap(lambda loc: draw(npd.Normal(loc, 1.0), Noise(jax.random.key(0))))(locs)
    np.testing.assert_allclose(x - locs, jnp.full(4, x[0]), rtol=1e-5)


def test_expanding_draws_independently_along_new_and_stretched_axes():
    base = npd.Normal(jnp.array([[0.0], [1.0]]), jnp.array([[1.0], [2.0]]))
    x = draw(base.expand([500, 2, 400]), Noise(jax.random.key(0)))
    assert x.shape == (500, 2, 400)
    z = np.asarray((x - base.loc) / base.scale)
    assert len(np.unique(z)) > 0.9 * z.size  # float32 has chance repetitions; shared noise would leave half
    assert st.kstest(z.ravel(), st.norm.cdf).pvalue > FALSE_ALARM


class Doubled(npd.Normal):
    """Draws twice what a normal draws, so that no rule for `Normal` holds."""

    def sample(self, key, sample_shape=()):
        return 2 * super().sample(key, sample_shape)


def test_a_subclass_that_draws_in_its_own_way_is_left_to_it():
    assert is_reparameterized(npd.Normal(0.0, 1.0)) and not is_reparameterized(Doubled(0.0, 1.0))
    assert not is_reparameterized(Doubled(0.0, 1.0).expand([3]).to_event(1))
    assert st.kstest(np.asarray(sample(Doubled(1.0, 1.0))), st.norm(2.0, 2.0).cdf).pvalue > FALSE_ALARM
    assert jax.grad(lambda loc: draw(Doubled(loc, 1.0), Noise(jax.random.key(0))))(0.5) == 0.0


def test_two_families_without_a_rule_in_one_compiled_function():
    """Their noise has the same shapes: only the law tells them apart."""

    @jax.jit
    def both(loc):
        one = draw(Doubled(loc, 1.0), Noise(jax.random.key(0)))
        two = draw(Shifted(loc, 1.0), Noise(jax.random.key(0)))
        return one, two

    one, two = both(0.5)
    np.testing.assert_allclose(two, one / 2 + 10, rtol=1e-5)


class Shifted(npd.Normal):
    """Draws ten more than a normal."""

    def sample(self, key, sample_shape=()):
        return 10 + super().sample(key, sample_shape)


def test_a_category_of_probability_zero_is_never_drawn():
    x = sample(npd.CategoricalProbs(jnp.array([0.5, 0.0, 0.5])))
    assert not jnp.any(x == 1)


@pytest.mark.parametrize("concentration", [1e-3, 0.02])
def test_gamma_draws_too_small_for_their_dtype_stay_in_the_support(concentration):
    for make in (lambda a: npd.Gamma(a, 1.0), lambda a: npd.Beta(a, a)):
        assert jnp.all(jnp.isfinite(log_density(make(concentration), sample(make(concentration)))))
    assert jnp.all(jnp.isfinite(sample(npd.InverseGamma(concentration, 1.0))))
