"""Guides whose fault is known: each is found, by what it should be found by."""

import re

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import numpyro.distributions as dist
import pytest

import ppl
from ppl.errors import UnusedChoice
from ppl.testing import psis_khat

KEY = jax.random.key(0)
matplotlib.use("agg")


@ppl.gen
def conjugate():
    x = ppl.normal(0.0, 1.0) @ "x"
    ppl.normal(x, 1.0) @ "y"


TARGET = conjugate().condition({"y": 1.0})  # N(1/2, 1/2), with evidence N(1; 0, 2)
LOG_EVIDENCE = float(jax.scipy.stats.norm.logpdf(1.0, 0.0, 2.0**0.5))


@ppl.gen
def normal(mean, sd):
    ppl.normal(mean, sd) @ "x"


def log_scaled(params):
    return normal(params[0], jnp.exp(params[1]))


COVARIANCE = jnp.array([[1.0, 0.99], [0.99, 1.0]])


@ppl.gen
def correlated():
    z = ppl.multivariate_normal(jnp.zeros(2), covariance_matrix=COVARIANCE) @ "z"
    ppl.normal(z[0], 3.0) @ "y"


CORRELATED = correlated().condition({"y": 1.0})
PRECISION = jnp.linalg.inv(COVARIANCE).at[0, 0].add(1 / 9)
MEAN = jnp.linalg.solve(PRECISION, jnp.array([1 / 9, 0.0]))


@ppl.gen
def mean_field(params):
    ppl.normal(params["mean"], jnp.exp(params["log_sd"])) @ "z"


@ppl.gen
def full_rank(params):
    tril = jnp.tril(params["tril"], -1) + jnp.diag(jnp.exp(jnp.diag(params["tril"])))
    ppl.multivariate_normal(params["mean"], scale_tril=tril) @ "z"


def test_the_posterior_has_constant_weights():
    report = psis_khat(TARGET, normal(0.5, 0.5**0.5), KEY)
    assert report.weights.status == "constant weights"
    assert report.reliable and report.cause == "none"
    assert report.weights.log_mean == pytest.approx(LOG_EVIDENCE, abs=1e-5)


def test_a_wider_guide_has_bounded_weights():
    report = psis_khat(TARGET, normal(0.4, 0.9), KEY)
    assert report.khat < 0.1 and report.reliable and report.cause == "none"
    assert report.message == f"k-hat {report.khat:.2f} <= 0.70: estimates under this guide can be trusted."
    assert report.weights.log_mean == pytest.approx(LOG_EVIDENCE, abs=0.05)


def test_the_elbo_is_that_of_the_closed_form():
    """`log Z - KL(q || p)`, within 5 standard errors."""
    report = psis_khat(TARGET, normal(0.0, 1.0), KEY, diagnose=False)
    divergence = 0.5 * (1 / 0.5 + 0.25 / 0.5 - 1 - np.log(2.0))
    assert abs(report.elbo - (LOG_EVIDENCE - divergence)) < 5 * report.elbo_error


def test_a_family_without_correlation():
    """The mean-field optimum: the right mean, and variances of one over the precision's diagonal."""
    params = {"mean": MEAN, "log_sd": -0.5 * jnp.log(jnp.diag(PRECISION))}
    report = psis_khat(CORRELATED, mean_field, KEY, params=params)
    assert report.khat > 0.7 and report.reliable is False and report.cause == "family"
    assert "training has converged" in report.message and "lacks the correlations" in report.message
    found = {attempt.name: attempt.weights for attempt in report.attempts}
    moved = found["moved to the weighted mean and covariance"]
    assert moved.khat < 0.3
    evidence = float(jax.scipy.stats.norm.logpdf(1.0, 0.0, 10.0**0.5))
    assert moved.log_mean == pytest.approx(evidence, abs=0.02)  # so that densities of moved draws are right
    assert len(report.plot().axes) == 2
    assert "k-hat" in str(report) and "log evidence" in str(report)


def test_an_optimizer_that_has_not_converged():
    params = {"mean": jnp.array([0.5, -0.5]), "tril": -2.0 * jnp.eye(2)}
    report = psis_khat(CORRELATED, full_rank, KEY, params=params)
    assert report.reliable is False and report.cause == "optimizer"
    assert "the gradient is not zero" in report.message
    assert report.attempts[-1].weights.khat < report.khat


def test_more_steps_that_suffice():
    report = psis_khat(TARGET, log_scaled, KEY, params=jnp.array([0.5, -2.0]))
    assert report.cause == "optimizer" and report.advice == "Train on."
    assert report.attempts[-1].name == "guide, 300 steps on" and report.attempts[-1].weights.reliable


def test_without_params_optimizer_and_family_are_not_told_apart():
    report = psis_khat(TARGET, normal(0.5, 0.1), KEY)
    assert report.cause == "optimizer or family"
    assert (
        "cannot be told from the guide alone" in report.message and "its scales are wrong" in report.message
    )


def test_an_objective_of_ones_own_decides_what_converged_means():
    """Parameters that are a maximum of it, though not of the ELBO."""
    objective = ppl.expectation(lambda params: -jnp.sum((params - jnp.array([0.5, -2.0])) ** 2))
    report = psis_khat(TARGET, log_scaled, KEY, params=jnp.array([0.5, -2.0]), objective=objective)
    assert report.cause == "family" and "training has converged" in report.message


def test_a_family_with_tails_too_light():
    @ppl.gen
    def heavy():
        x = ppl.student_t(2.0, 0.0, 1.0) @ "x"
        ppl.normal(x, 50.0) @ "y"

    report = psis_khat(heavy().condition({"y": 0.0}), normal(0.0, 1.42), KEY)
    assert report.reliable is False and "no such move is enough" in report.message


def test_a_model_whose_density_is_not_a_number():
    @ppl.gen
    def model():
        x = ppl.normal(0.0, 1.0) @ "x"
        ppl.normal(jnp.log(x), 1.0) @ "y"

    target = model().condition({"y": 1.0})
    report = psis_khat(target, normal(0.0, 1.0), KEY)
    assert (report.reliable, report.cause, report.weights.status) == (False, "model", "invalid weights")
    found = re.search(
        r"not a number, or infinite, at ([\d.]+) % of the guide's draws, first at -", report.message
    )
    assert found and abs(float(found[1]) - 50.0) < 4.0  # 5 standard errors
    # A guide that stays away from where it fails: draws of the prior do not.
    away = psis_khat(target, normal(3.0, 0.2), KEY)
    assert away.cause == "model" and "prior's draws" in away.message


def test_a_posterior_that_does_not_exist():
    """All data equal: the density of their scale grows as `s^-6` towards zero."""

    @ppl.gen
    def scale():
        s = ppl.half_normal(5.0) @ "s"
        ppl.normal(jnp.zeros(6), s) @ "y"

    @ppl.gen
    def guide(mean):
        ppl.log_normal(mean, 0.4) @ "s"

    report = psis_khat(scale().condition({"y": jnp.zeros(6)}), guide, KEY, params=-1.0)
    assert report.cause == "model" and "mass does not end" in report.message
    proper = psis_khat(scale().condition({"y": jnp.ones(6)}), guide(-1.5), KEY)
    assert "mass does not end" not in proper.message


def test_a_density_that_does_not_fall():
    @ppl.gen
    def flat():
        x = ppl.normal(0.0, 1.0) @ "x"
        ppl.dist(dist.Unit(0.5 * x**2)) @ "factor"  # undoes the prior

    report = psis_khat(flat().condition({"factor": jnp.zeros(0)}), normal(0.0, 0.5), KEY)
    assert report.reliable is False and report.cause == "model"


def test_a_mode_that_the_guide_never_sees():
    @ppl.gen
    def square():
        x = ppl.normal(0.0, 3.0) @ "x"
        ppl.normal(x**2, 1.0) @ "y"

    report = psis_khat(square().condition({"y": 4.0}), normal(2.0, 0.28), KEY)
    assert report.khat < 0.7, "by its own draws all is well"
    assert (report.reliable, report.cause) == (False, "family")
    assert "the guide misses" in report.message or "which miss about 5" in report.message


def test_supports():
    @ppl.gen
    def interval():
        ppl.uniform(0.0, 1.0) @ "x"

    small = psis_khat(TARGET, interval(), KEY)
    assert (small.reliable, small.cause) == (False, "family") and "support is too small" in small.message

    @ppl.gen
    def positive():
        x = ppl.exponential(1.0) @ "x"
        ppl.normal(x, 1.0) @ "y"

    target = positive().condition({"y": 1.0})
    large = psis_khat(target, normal(1.0, 1.0), KEY)
    assert large.reliable and "rules out 1" in large.message and large.elbo == -np.inf
    beside = psis_khat(target, normal(-50.0, 1.0), KEY)
    assert (beside.reliable, beside.cause, beside.weights.status) == (False, "family", "no weight")
    assert str(beside)


def test_parameters_that_are_not_finite():
    report = psis_khat(TARGET, lambda p: normal(p, 1.0), KEY, params=jnp.nan)
    assert (report.reliable, report.cause) == (False, "optimizer")
    report.plot()


def test_what_cannot_be_told():
    few = psis_khat(TARGET, normal(0.5, 0.6), KEY, num_samples=50)
    assert (few.reliable, few.cause, few.weights.status) == (None, "unknown", "too few draws")

    @ppl.gen
    def coin():
        k = ppl.flip(0.3) @ "k"
        ppl.normal(jnp.where(k, 1.0, 0.0), 1.0) @ "y"

    @ppl.gen
    def fair():
        ppl.flip(0.5) @ "k"

    tied = psis_khat(coin().condition({"y": 1.0}), fair(), KEY)
    assert (tied.reliable, tied.cause, tied.weights.status) == (None, "unknown", "tied weights")
    assert "cannot be told" in tied.message


def test_families_are_measures_too():
    report = psis_khat(ppl.normal(0.0, 1.0), ppl.normal(0.0, 0.3), KEY)
    assert report.cause == "optimizer or family" and report.attempts[0].name == "moved to the weighted mean"
    assert report.attempts[1].weights.log_mean == pytest.approx(0.0, abs=0.02)


def test_mistakes_are_named():
    @ppl.gen
    def other():
        ppl.normal(0.0, 1.0) @ "z"

    with pytest.raises(UnusedChoice, match="'z' is no choice"):
        psis_khat(TARGET, other(), KEY)
    with pytest.raises(TypeError, match="params= goes with a function"):
        psis_khat(TARGET, normal(0.0, 1.0), KEY, params=1.0)
    with pytest.raises(TypeError, match="together with params="):
        psis_khat(TARGET, normal, KEY)
    with pytest.raises(TypeError, match="is a measure, got float"):
        psis_khat(TARGET, lambda p: p, KEY, params=1.0)
    with pytest.raises(ValueError, match="must be positive"):
        psis_khat(TARGET, normal(0.0, 1.0), KEY, num_samples=0)
