"""Coupled runs: each alone as with the inner estimator, and together with less variance.

Means are integrated exactly over the noise, that which the runs share included. Laws of noise that cannot be
integrated are tested by Kolmogorov and Smirnov at 1e-6, and correlations at 5 standard errors: 2e-7 and 6e-7 a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from scipy import stats

import ppl
from ppl.estimators import Antithetic, Enumerate, MeasureValued, QuasiMonteCarlo, Reinforce, Reparam
from ppl.noise import BERNOULLI, CATEGORICAL, GEOMETRIC, LOG_GAMMA, NORMAL, SAMPLES, UNIFORM, Noise, Token

from ..laws import oracles
from ..laws.cases import THETA
from ..laws.integrate import integrate
from ..laws.laws import KEY, estimates, truth_of
from ..laws.oracles import coins
from ..laws.rules import Rule, trapezoid

sigmoid = jax.nn.sigmoid
BOTH = {"antithetic": Antithetic, "quasi_monte_carlo": QuasiMonteCarlo}
both = pytest.mark.parametrize("coupled", BOTH.values(), ids=BOTH)


def check(program: Any, truth: Any, samples: int, rules: Any, *, second: bool = True, draws: int = 1) -> None:
    """E[mean of the runs] and its derivatives are the truth's, to eight digits."""
    right = truth_of(truth)
    with jax.enable_x64(True):
        estimate = estimates(ppl.expectation(program), second, num_samples=samples)
        found = integrate(estimate, jax.random.key(KEY), jnp.asarray(THETA), rules=rules)
    assert found.draws >= draws
    for name, mean in found.mean.items():
        wanted = getattr(right, name.split()[-1], right.value)
        np.testing.assert_allclose(mean, wanted, rtol=1e-8, atol=1e-8, err_msg=name)


# --- unbiased, exactly ----------------------------------------------------------------------------

NORMAL_LAW = oracles.normal(lambda t: t[0], lambda t: jnp.exp(0.3 * t[1]), 0.0)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("inner", [Reparam(), Reinforce(baseline=0.3)], ids=["reparam", "reinforce"])
def test_antithetic_normal(inner: Any, samples: int) -> None:
    def program(t: Any) -> Any:
        x = ppl.normal(t[0], jnp.exp(0.3 * t[1])).using(Antithetic(inner)) @ "x"
        return jnp.exp(0.4 * x) * (1 + 0.3 * t[0] * t[1]) + 0.1 * x**3

    def truth(t: Any) -> Any:
        return NORMAL_LAW.mean(lambda x: jnp.exp(0.4 * x) * (1 + 0.3 * t[0] * t[1]) + 0.1 * x**3, t)

    check(program, truth, samples, {"normal": trapezoid(0.5)}, draws=(samples + 1) // 2)


@pytest.mark.parametrize("samples", [1, 2, 3])
@both
def test_uniform(coupled: Any, samples: int) -> None:
    """A polynomial of a reparameterized uniform draw, for Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    gauss = {"uniform": Rule((nodes + 1) / 2, weights / 2)}

    def program(t: Any) -> Any:
        x = ppl.uniform(t[0] - 1.0, t[1] + 1.5).using(coupled()) @ "x"
        return x**3 * t[1] + x**2 - x

    def truth(t: Any) -> Any:
        low, high = t[0] - 1.0, t[1] + 1.5
        moment = lambda n: (high ** (n + 1) - low ** (n + 1)) / (n + 1) / (high - low)
        return moment(3) * t[1] + moment(2) - moment(1)

    check(program, truth, samples, gauss)


def steps(*edges: float) -> Rule:
    """Exact for functions of a uniform number that are constant between the edges."""
    ends = np.unique([0.0, *edges, 1.0])
    return Rule((ends[1:] + ends[:-1]) / 2, np.diff(ends))


def cuts(coupled: Any, samples: int, *probabilities: float) -> dict[str, Rule]:
    """Where the uniform numbers behind a quantile with these jumps are cut: mirrored, or within a stratum."""
    strata = 2 ** (samples - 1).bit_length()
    pieces = lambda p: (p, 1 - p) if coupled is Antithetic or samples == 1 else ((strata * p) % 1,)
    return {"uniform": steps(*(edge for p in probabilities for edge in pieces(p)))}


PROBS = [float(scipy.special.expit(THETA[0] + s * THETA[1])) for s in (0.0, 1.0, -0.5)]
INNER = {"reinforce": Reinforce(baseline=0.4), "measure_valued": MeasureValued(), "enumerate": Enumerate()}


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
@both
def test_coin(coupled: Any, inner: Any, samples: int) -> None:
    def program(t: Any) -> Any:
        (x,) = ppl.flip(sigmoid(t[:1])).using(coupled(inner)) @ "x"
        return jnp.where(x, 2.0 + t[1], t[0])

    def truth(t: Any) -> Any:
        return sigmoid(t[0]) * (2.0 + t[1]) + (1 - sigmoid(t[0])) * t[0]

    check(program, truth, samples, cuts(coupled, samples, PROBS[0]))


@both
def test_categorical(coupled: Any) -> None:
    logits = lambda t: jnp.stack([t[0], t[1], 0.3])

    def program(t: Any) -> Any:
        x = ppl.categorical(logits=logits(t)).using(coupled(Reinforce())) @ "x"
        return jnp.array([1.0, -0.5, 2.5])[x] * (1 + t[0])

    def truth(t: Any) -> Any:
        return jnp.sum(jax.nn.softmax(logits(t)) * jnp.array([1.0, -0.5, 2.5])) * (1 + t[0])

    below = np.cumsum(scipy.special.softmax([*THETA, 0.3]))[:2]
    for samples in (2, 3) if coupled is Antithetic else (2,):
        check(program, truth, samples, cuts(coupled, samples, *below))


FLOWS: dict[str, Callable[[Any, Any], Any]] = {
    "vmap": lambda draw, t: jax.vmap(lambda s: draw(t, s))(jnp.array([1.0, -0.5])),
    "scan": lambda draw, t: jax.lax.scan(lambda c, s: (c, draw(t, s)), 0, jnp.array([1.0, -0.5]))[1],
    "map": lambda draw, t: jax.lax.map(lambda s: draw(t, s), jnp.array([1.0, -0.5])),
    "cond": lambda draw, t: jnp.stack(
        [draw(t, 1.0), jax.lax.cond(t[0] > -9.0, lambda: draw(t, -0.5), lambda: 0.0)]
    ),
    "array": lambda draw, t: draw(t, jnp.array([1.0, -0.5])),
    "two": lambda draw, t: jnp.stack([draw(t, 1.0), draw(t, -0.5)]),
}


@pytest.mark.parametrize("flow", FLOWS)
@both
def test_instances_of_one_run_are_independent(coupled: Any, flow: str) -> None:
    """Lanes, steps, entries and choices meet in a product, whose mean is that of independent draws."""

    def program(t: Any) -> Any:
        draw = lambda t, s: ppl.flip(sigmoid(t[0] + s * t[1])).using(coupled(Reinforce())).propose().retval * 1.0
        x, y = FLOWS[flow](draw, t)
        return (x + 0.5) * (2.0 * y - t[1]) + x

    def truth(t: Any) -> Any:
        p = [sigmoid(t[0] + s * t[1]) for s in (1.0, -0.5)]
        return coins(lambda i, _: p[i], lambda b: (b[0] + 0.5) * (2.0 * b[1] - t[1]) + b[0], 2)

    check(program, truth, 2, cuts(coupled, 2, *PROBS[1:]), draws=2)


@both
def test_what_depends_on_earlier_draws_and_runs_again(coupled: Any) -> None:
    """A coupled coin decides the law of the next, whose phantoms run the rest again from the same noise."""

    def program(t: Any) -> Any:
        x = ppl.flip(sigmoid(t[:1])).using(coupled(Enumerate())) @ "x"
        y = ppl.flip(jnp.where(x, 0.5, 0.0) + sigmoid(t[1:])).using(coupled(MeasureValued())) @ "y"
        return jnp.sum(2.0 * x * y + y * t[0])

    def truth(t: Any) -> Any:
        second = lambda x: 0.5 * x + sigmoid(t[1])
        return coins(
            lambda i, b: second(b[0]) if i else sigmoid(t[0]), lambda b: 2.0 * b[0] * b[1] + b[1] * t[0], 2
        )

    second = float(scipy.special.expit(THETA[1]))
    check(program, truth, 2, cuts(coupled, 2, PROBS[0], second, 0.5 + second), draws=2)


# --- the laws of the noise ------------------------------------------------------------------------


def noise(coupled: Any, samples: int, draw: Callable[[Noise], Any], runs: int = 4000) -> np.ndarray:
    """What every run draws, for many keys: shape `(runs, samples, ...)`."""

    def mean(key: Any) -> Any:
        one = lambda own: draw(coupled().couple(Noise(key, Token(own), samples)))
        return jax.vmap(one, axis_name=SAMPLES)(jnp.zeros(samples, bool))

    return np.asarray(jax.jit(jax.vmap(mean))(jax.random.split(jax.random.key(7), runs)))


@pytest.mark.parametrize("samples", [2, 5, 8])
@both
def test_normal_and_uniform_noise_have_their_law_in_each_run(coupled: Any, samples: int) -> None:
    def draw(noise: Noise) -> Any:
        return jnp.concatenate([noise.normal((3,)), jax.scipy.special.ndtri(noise.uniform((2, 2))).ravel()])

    found = noise(coupled, samples, draw)
    assert np.all(np.isfinite(found))
    for run in range(samples):
        for number in range(found.shape[-1]):
            assert stats.kstest(found[:, run, number], "norm").pvalue > 1e-6
        # All numbers of one run are independent: of one draw, and of two.
        correlation = np.corrcoef(found[:, run], rowvar=False) - np.eye(found.shape[-1])
        assert np.max(np.abs(correlation)) < 5 / np.sqrt(len(found))
        squares = np.corrcoef(found[:, run] ** 2, rowvar=False) - np.eye(found.shape[-1])
        assert np.max(np.abs(squares)) < 5 / np.sqrt(len(found))


PMF = {
    "bernoulli": (BERNOULLI, 0.3, np.array([0.7, 0.3])),
    "certain": (BERNOULLI, 1.0, np.array([0.0, 1.0])),
    "categorical": (CATEGORICAL, jnp.log(jnp.array([0.0, 0.2, 0.0, 0.8, 0.0])), np.array([0, 0.2, 0, 0.8, 0])),
    "geometric": (GEOMETRIC, 0.35, 0.35 * 0.65 ** np.arange(40)),
}


@pytest.mark.parametrize("law", PMF)
@both
def test_discrete_noise_has_its_law_in_each_run(coupled: Any, law: str) -> None:
    which, parameter, mass = PMF[law]
    found = noise(coupled, 3, lambda noise: noise.draw(which, (2,), int, parameter), 20_000)
    for run in range(3):
        for number in range(2):
            counts = np.bincount(found[:, run, number], minlength=len(mass))
            assert len(counts) <= len(mass) and np.all(counts[mass == 0] == 0)
            expected = mass * len(found)
            errors = np.sqrt(expected * (1 - mass))
            assert np.all(np.abs(counts - expected) <= 5 * errors + 1)


@both
def test_other_laws_are_drawn_independently(coupled: Any) -> None:
    found = noise(coupled, 4, lambda noise: noise.draw(LOG_GAMMA, (), jnp.float32, 2.5))
    assert np.max(np.abs(np.corrcoef(found, rowvar=False) - np.eye(4))) < 5 / np.sqrt(len(found))
    assert stats.kstest(found[:, 0], stats.loggamma(2.5).cdf).pvalue > 1e-6


def test_pairs_are_mirrored_and_different_pairs_are_independent() -> None:
    normal, uniform = (
        noise(Antithetic, 5, lambda noise: noise.draw(law, (), jnp.float32)) for law in (NORMAL, UNIFORM)  # noqa: B023
    )
    for pair in (0, 2):
        np.testing.assert_array_equal(normal[:, pair], -normal[:, pair + 1])
        np.testing.assert_allclose(uniform[:, pair], 1 - uniform[:, pair + 1], atol=1e-6)
    distinct = normal[:, [0, 2, 4]]
    assert np.max(np.abs(np.corrcoef(distinct, rowvar=False) - np.eye(3))) < 5 / np.sqrt(len(normal))


def test_each_number_falls_once_into_each_stratum_and_pairs_into_boxes() -> None:
    found = noise(QuasiMonteCarlo, 16, lambda noise: noise.uniform((2,)), 50)
    for run in found:
        for number in (0, 1):
            assert sorted(np.floor(16 * run[:, number])) == list(range(16))
        boxes = np.floor(4 * run)
        assert len(np.unique(boxes[:, 0] * 4 + boxes[:, 1])) == 16


# --- variance -------------------------------------------------------------------------------------


def means(estimator: Any, function: Any, samples: int, runs: int = 2000, measure: Any = None) -> Any:
    """Values and gradients of the mean of some runs, for many keys."""
    base = (lambda t: ppl.normal(t, 0.8)) if measure is None else measure
    objective = ppl.expectation(lambda t: function(base(t).using(estimator) @ "x"))
    keys = jax.random.split(jax.random.key(3), runs)
    found = jax.jit(jax.vmap(lambda key: objective.value_and_grad(key, 0.3, num_samples=samples)))(keys)
    return [np.asarray(x, np.float64) for x in found]


def interval(reduced: np.ndarray, plain: np.ndarray) -> tuple[float, float, float]:
    """The ratio of variances, and the ends of its bootstrap interval of level 0.998."""
    rng = np.random.default_rng(0)
    pick = lambda x: x[rng.integers(0, len(x), len(x))].var()
    again = [pick(reduced) / pick(plain) for _ in range(1000)]
    low, high = np.quantile(again, [0.001, 0.999])
    return float(reduced.var() / plain.var()), float(low), float(high)


def test_antithetic_runs_leave_no_variance_of_a_line() -> None:
    for measure in (None, lambda t: ppl.uniform(t, 2.0), lambda t: ppl.laplace(t, 1.0), lambda t: ppl.families.logistic(t, 1.0)):
        value, _ = means(Antithetic(), lambda x: 2.0 * x, 16, 50, measure)
        assert value.std() < 1e-5
        assert means(Antithetic(), lambda x: 2.0 * x, 1, 50, measure)[0].std() > 0.1


SMOOTH = {
    "antithetic": (Antithetic(), 0.5, 0.1),
    "quasi_monte_carlo": (QuasiMonteCarlo(), 0.1, 0.1),
    "antithetic_reinforce": (Antithetic(Reinforce()), 0.5, 0.95),
    "quasi_monte_carlo_reinforce": (QuasiMonteCarlo(Reinforce()), 0.1, 0.5),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_mean_of_sixteen_runs_of_a_smooth_result(name: str) -> None:
    """Value and gradient, against as many independent runs; the ends of the intervals stay below the bounds."""
    estimator, *most = SMOOTH[name]
    function = lambda x: jnp.exp(0.3 * x) + 0.1 * x**2
    coupled, plain = means(estimator, function, 16), means(estimator.inner, function, 16)
    for what, one, other, bound in zip(("value", "gradient"), coupled, plain, most, strict=True):
        found, low, high = interval(one, other)
        print(f"{name} {what}: variance ratio {found:.4f}, from {low:.4f} to {high:.4f}")
        assert high < bound


def test_quasi_monte_carlo_over_a_vector_and_over_choices() -> None:
    """Interactions within a choice are spread too; those between choices are as in independent runs."""
    keys = jax.random.split(jax.random.key(3), 2000)

    def variance(estimator: Any, program: Any) -> np.ndarray:
        objective = ppl.expectation(program(estimator))
        return np.asarray(jax.vmap(lambda key: objective.estimate(key, num_samples=64))(keys), np.float64)

    vector = lambda how: lambda: jnp.prod(1 + 0.5 * (ppl.normal(jnp.zeros(2), 1.0).using(how) @ "x"))
    pair = lambda how: lambda: jnp.prod(
        jnp.stack([1 + 0.5 * (ppl.normal(0.0, 1.0).using(how) @ name) for name in "xy"])
    )
    for name, program, bound in (("a vector", vector, 0.1), ("two choices", pair, 0.2)):
        found, low, high = interval(variance(QuasiMonteCarlo(), program), variance(Reparam(), program))
        print(f"{name}: variance ratio {found:.4f}, from {low:.4f} to {high:.4f}")
        assert high < bound


# --- what the inner estimator decides -------------------------------------------------------------


@pytest.mark.parametrize("inner", [Reparam(), Enumerate(), MeasureValued(), Reinforce(0.5)], ids=repr)
@both
def test_everything_else_is_the_inner_estimator(coupled: Any, inner: Any) -> None:
    outer = coupled(inner)
    for name in ("pathwise", "joint", "biased", "together", "score_beyond_first", "excess_beyond_first"):
        assert getattr(outer, name) == getattr(inner, name)
    for measure in (ppl.normal(0.0, 1.0), ppl.flip(0.3), ppl.poisson(2.0), ppl.dirichlet(jnp.ones(3))):
        assert outer.admits(measure.numpyro) == inner.admits(measure.numpyro)  # type: ignore[attr-defined]
    leaves, tree = jax.tree.flatten(outer)
    assert jax.tree.unflatten(tree, leaves) == outer and len(leaves) == len(jax.tree.leaves(inner))


@both
def test_a_single_run_is_that_of_the_inner_estimator(coupled: Any) -> None:
    for inner in (Reparam(), Reinforce(0.5), MeasureValued()):
        program = lambda how: ppl.expectation(lambda t: (ppl.normal(t, 0.8).using(how) @ "x") ** 2)  # noqa: E731
        key = jax.random.key(9)
        one, other = (program(how).value_and_grad(key, 0.3) for how in (inner, coupled(inner)))
        assert one == other
        assert program(coupled(inner)).estimate(key, 0.3, num_samples=4) != program(inner).estimate(
            key, 0.3, num_samples=4
        )


@both
def test_a_choice_that_is_summed_over_still_is(coupled: Any) -> None:
    objective = ppl.expectation(lambda t: jnp.where(ppl.flip(t).using(coupled(Enumerate())) @ "x", 1.0, -t))
    for samples in (1, 4):
        value, slope = objective.value_and_grad(jax.random.key(0), 0.4, num_samples=samples)
        np.testing.assert_allclose((value, slope), (0.4 - 0.6 * 0.4, 1 - 1 + 2 * 0.4), rtol=1e-5)


@both
def test_jumps_are_refused_where_the_inner_estimator_moves(coupled: Any) -> None:
    def above(how: Any) -> Any:
        return ppl.expectation(lambda t: jnp.where(ppl.normal(t, 1.0).using(how) @ "x" > 0.0, 1.0, 0.0))

    with pytest.raises(ppl.DiscontinuousReparameterization, match="'x'"):
        above(coupled()).grad(jax.random.key(0), 0.3)
    assert np.isfinite(above(coupled(Reinforce())).grad(jax.random.key(0), 0.3, num_samples=4))
    with pytest.raises(ppl.errors.EstimatorNotAdmitted, match=f"{coupled.__name__} does not exist for"):
        ppl.poisson(2.0).using(coupled())
    with pytest.raises(ppl.UnsupportedProgram, match="end of its support"):
        end = lambda t: (ppl.uniform(0.0, t).using(coupled(Reinforce())) @ "x") ** 2
        ppl.expectation(end).grad(jax.random.key(0), 2.0)


def test_one_coupling_at_a_time() -> None:
    """To the inner estimator there is one run, so a coupling inside another does nothing."""
    program = lambda how: ppl.expectation(lambda t: (ppl.normal(t, 0.8).using(how) @ "x") ** 2)
    key = jax.random.key(9)
    for outer in (Antithetic, QuasiMonteCarlo):
        for inner in (Antithetic, QuasiMonteCarlo):
            nested, plain = (
                program(how).value_and_grad(key, 0.3, num_samples=4) for how in (outer(inner()), outer())
            )
            assert nested == plain


@both
def test_under_jit_in_a_program_with_using_and_an_odd_number_of_runs(coupled: Any) -> None:
    @ppl.gen
    def guide(t: Any) -> Any:
        x = ppl.normal(t, 1.0) @ "x"
        jax.vmap(lambda s: ppl.gamma(jnp.exp(x), s) @ "g")(jnp.array([1.0, 2.0]))
        ppl.normal(jnp.zeros(0), 1.0) @ "none"

    def program(t: Any) -> Any:
        trace = guide(t).using({"*": coupled()}).propose()
        return jnp.sum(trace.choices["g"]) + ppl.expect(lambda s: ppl.normal(s, 1.0).using(coupled()) @ "y")(t)

    objective = ppl.expectation(program)
    gradient = jax.jit(lambda key, t: objective.grad(key, t, num_samples=7))
    found = np.asarray(jax.vmap(gradient, in_axes=(0, None))(jax.random.split(jax.random.key(1), 2000), 0.2))
    wanted = 1.5 * np.exp(0.2 + 0.5) + 1.0  # E[sum of g] = 1.5 exp(t + 1/2)
    assert abs(found.mean() - wanted) < 5 * found.std() / np.sqrt(len(found))
