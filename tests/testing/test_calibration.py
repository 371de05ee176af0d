"""Calibration of posteriors in closed form: right ones, and ones that are wrong on purpose.

A right posterior fails with probability 0.01 at most, for each key; keys are fixed.
"""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from scipy import stats

import ppl
from ppl.errors import UnknownAddress
from ppl.testing import calibrate
from ppl.testing.quantities import rank

KEY = jax.random.key(11)
matplotlib.use("agg")


X = jnp.stack([jnp.ones(5), jnp.array([-1.0, -0.3, 0.2, 0.8, 1.5])], 1)
PRIOR = jnp.array([1.0, 2.0])


@ppl.gen
def regression():
    beta = ppl.normal(jnp.zeros(2), PRIOR) @ "beta"
    ppl.normal(X @ beta, 1.0) @ "y"


@ppl.gen
def gaussian(mean, tril):
    ppl.multivariate_normal(mean, scale_tril=tril) @ "beta"


def posterior(scale=1.0, shift=0.0, seen=5):
    """The posterior in closed form, and how to get it wrong."""

    covariance = jnp.linalg.inv(jnp.diag(PRIOR**-2) + X[:seen].T @ X[:seen])
    gain, tril = covariance @ X[:seen].T, jnp.linalg.cholesky(covariance)

    def of(key, data):
        mean = gain @ data["y"][:seen] + shift * jnp.sqrt(jnp.diag(covariance))
        return gaussian(mean, scale * tril)

    return of


def report(posterior, **options):
    options = {"replicates": 4000, "observed": "y"} | options
    return calibrate(regression(), posterior, KEY, **options)


@pytest.fixture(scope="module")
def right():
    return report(posterior())


# A guide of independent choices, with four fifths of the scales that the ELBO would choose.
PRECISION = jnp.diag(PRIOR**-2) + X.T @ X
SCALES = 0.8 * jnp.diag(PRECISION) ** -0.5


@pytest.fixture(scope="module")
def restricted():
    gain = jnp.linalg.solve(PRECISION, X.T)
    guide = lambda key, data: gaussian(gain @ data["y"], jnp.diag(SCALES))
    return report(guide, gate=False, replicates=2000)


def test_the_posterior_passes(right):
    assert right.passed and right.verdict == "calibrated" and not right.outside
    names = ["beta[0]", "beta[1]", "beta[0] squared", "beta[1] squared", "log likelihood", "projection"]
    assert [q.name for q in right.quantities] == names
    assert all(len(q.ranks) == 4000 and set(q.ranks) <= set(range(100)) for q in right.quantities)


def test_the_prior_is_found_by_the_likelihood_and_by_nothing_else():
    found = report(lambda key, data: gaussian(jnp.zeros(2), jnp.diag(PRIOR)))
    assert [q.name for q in found.outside] == ["log likelihood"]
    assert found.outside[0].words == "draws fit the data too badly"


def test_a_scale_that_is_wrong_by_a_tenth_is_found():
    found = report(posterior(scale=1.1))
    assert not found.passed
    assert found["projection"].words == "too wide"


def test_a_shift_of_a_fifth_of_a_standard_deviation_is_found():
    found = report(posterior(shift=0.2))
    assert not found.passed
    assert found["beta[0]"].words == "draws too large"
    assert found["beta[0]"] in found.outside


def test_an_observation_that_is_ignored_is_found_by_the_likelihood():
    found = report(posterior(seen=4))
    assert [q.name for q in found.outside] == ["log likelihood"]


def test_a_restricted_guide_is_reported_and_not_judged(restricted):
    assert restricted.passed is None and restricted.verdict == "reported"
    assert restricted["beta[0]"].words == "too narrow" and restricted["beta[0]"] in restricted.outside
    assert str(restricted).startswith("reported: ")
    assert replace(restricted, gate=True).passed is False


def test_a_plain_python_sampler():
    """Self-normalized importance sampling with resampling, in NumPy, one draw a call."""

    @ppl.gen
    def model():
        x = ppl.normal(0.0, 1.0) @ "x"
        ppl.flip(jax.nn.sigmoid(x)) @ "y"

    calls = []

    def sampler(key, data):
        calls.append(data["y"])
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        x = random.normal(size=300)
        weights = 1 / (1 + np.exp(-x * (1 if data["y"] else -1)))
        return {"x": np.float32(random.choice(x, p=weights / weights.sum()))}

    found = calibrate(model(), sampler, KEY, observed=["y"], replicates=200, draws=9, vectorized=False)
    assert found.passed and len(calls) == 200 * (1 + 9)
    wrong = calibrate(
        model(), lambda key, data: {"x": np.zeros(9)}, KEY, observed=["y"], replicates=200, draws=9,
        vectorized=False,
    )  # fmt: skip
    assert not wrong.passed


def test_discrete_parameters_and_quantities_of_ones_own():
    """Ties are broken at random, so that ranks of coins are uniform too."""

    @ppl.gen
    def coin():
        heavy = ppl.flip(0.3) @ ("coin", "heavy")
        ppl.flip(jnp.where(heavy, 0.9, 0.4)) @ "heads"

    @ppl.gen
    def exact(p):
        ppl.flip(p) @ ("coin", "heavy")

    def right(key, data):
        up, down = 0.3 * 0.9, 0.7 * 0.4
        p = jnp.where(data["heads"], up / (up + down), 0.03 / (0.03 + 0.42))
        return exact(p)

    same = {"guessed": lambda choices, data: choices["coin", "heavy"] == data["heads"]}
    options = {"observed": "heads", "quantities": same, "draws": 19, "replicates": 2000}
    assert calibrate(coin(), right, KEY, **options).passed
    found = calibrate(coin(), lambda key, data: exact(0.3), KEY, **options)
    assert {q.name for q in found.outside} == {"log likelihood", "guessed"}


def test_ranks_of_ties_are_uniform():
    keys = jax.random.split(KEY, 100_000)
    draws = jnp.array([0.0, 1.0, 1.0, 1.0, 2.0])
    found = np.bincount(np.asarray(jax.vmap(lambda k: rank(k, jnp.array(1.0), draws))(keys)), minlength=6)
    assert found[0] == found[5] == 0
    assert stats.chisquare(found[1:5]).pvalue > 6e-7
    assert rank(KEY, jnp.array(jnp.nan), draws) == rank(KEY, jnp.array(1.0), draws.at[2].set(jnp.nan)) == -1


def test_what_is_not_a_number_fails():
    def broken(key, data):
        draw = posterior()(key, data).simulate(key).choices
        return {"beta": jnp.where(draw["beta"] > 2.0, jnp.nan, draw["beta"])}

    found = report(broken, replicates=100, draws=9)
    assert not found.passed
    assert found["log likelihood"].invalid > 0
    assert f"not a number in {found['log likelihood'].invalid} replicates" in str(found)
    found.plot()


def test_coverage_is_that_of_intervals_between_the_draws(restricted):
    """Truths are normal about the guide's mean, with `1/r` times its scale: about `2 F(r q) - 1`."""
    coverage = restricted.coverage((0.5, 0.9))
    ratios = SCALES / jnp.sqrt(jnp.diag(jnp.linalg.inv(PRECISION)))
    for k in coverage.columns():
        inside = stats.norm.ppf((1 + coverage.nominal[k]) / 2)
        for found, ratio in zip(coverage.empirical[:, k], ratios, strict=True):
            expected = 2 * stats.norm.cdf(ratio * inside) - 1
            # The ends of an interval are order statistics of 99 draws: that costs one point at the most.
            assert abs(found - expected) < 5 * math.sqrt(expected * (1 - expected) / 2000) + 0.01
    assert "%*" in str(coverage).split("\n")[2]


def test_a_right_posterior_has_nominal_coverage(right):
    coverage = right.coverage()
    assert coverage.names == ("beta[0]", "beta[1]")
    assert "%*" not in str(coverage)
    for number in range(2):
        low, high = coverage.band(number, 1e-6)
        assert ((low <= coverage.empirical[number]) & (coverage.empirical[number] <= high)).all()


def test_coverage_counts_truths_between_order_statistics():
    random = np.random.default_rng(0)
    truth, draws = random.normal(size=500), np.sort(random.normal(size=(500, 19)), 1)
    from ppl.testing.coverage import coverage_of

    ranks = (draws < truth[:, None]).sum(1)
    coverage = coverage_of(("x",), [ranks], 19, 0.01, (0.5,))
    for a, nominal, empirical in zip(range(9, 0, -1), coverage.nominal, coverage.empirical[0], strict=True):
        inside = (draws[:, a - 1] < truth) & (truth < draws[:, 19 - a])
        assert empirical == inside.mean()
        assert nominal == pytest.approx((20 - 2 * a) / 20)


def test_pictures(right, restricted):
    panels = restricted.plot().axes
    assert len(panels) == 8 and "too narrow" in panels[0].get_title()
    assert right.plot().axes[0].get_title() == "beta[0]"
    assert len(right.coverage().plot().axes) == 2


def test_the_table(restricted):
    lines = str(replace(restricted, gate=True)).split("\n")
    assert lines[0].startswith("not calibrated: ") and "probability 0.01 at most" in lines[0]
    assert lines[3].split() == ["quantity", "p", "shift", "spread"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"observed": "x"}, UnknownAddress, "'x' is no choice"),
        ({"observed": ["beta", "y"]}, ValueError, "every choice of .* is observed"),
        ({"replicates": 5}, ValueError, "replicates=5"),
        ({"draws": 1}, ValueError, "draws must be at least 2"),
        ({"rate": 1.0}, ValueError, "rate is a probability"),
        ({"posterior": lambda key, data: data["y"]}, TypeError, "dictionary from address"),
        ({"posterior": lambda key, data: {"b": data["y"]}}, ValueError, "draws 'b', but .* 'beta'"),
        ({"posterior": lambda key, data: {"beta": data["y"]}}, ValueError, r"shape \(5,\).*\(99, 2\)"),
    ],
)
def test_mistakes_are_named(options, error, words):
    options = {"posterior": posterior(), "observed": "y", "replicates": 20} | options
    with pytest.raises(error, match=words):
        calibrate(regression(), options.pop("posterior"), KEY, **options)
