"""The benchmark of estimators at tiny sizes: its exact gradients, its verdicts, and its contestants."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, gammaln

import ppl

MODULES = ("_timing", "_problem", "_problems", "_contest", "_genjax", "_numpyro", "_lanes", "estimators")
TINY = {
    "vae": {"batch": 2, "latents": 3, "hidden": 4, "steps": 0},
    "hmm": {"length": 3, "states": 2, "steps": 0},
    "factors": {"batch": 2, "count": 2, "steps": 0},
    "mixture": {"points": 3, "components": 2, "steps": 0},
}
DRAWS = 10_000


@pytest.fixture(scope="module")
def bench(scripts: Any) -> Iterator[SimpleNamespace]:
    with scripts(*MODULES) as found:
        yield found


@pytest.fixture(scope="module")
def problems(bench: Any) -> dict[str, Any]:
    return {name: bench.problems.PROBLEMS[name](**sizes) for name, sizes in TINY.items()}


def entry_of(bench: Any, name: str) -> Any:
    (entry,) = [entry for entry in bench.estimators.ENTRIES if entry.name == name]
    return entry


@pytest.fixture(scope="module")
def truths(problems: dict[str, Any]) -> dict[str, Any]:
    return {name: problem.truth() for name, problem in problems.items()}


def moments(bench: Any, problem: Any, truth: Any, gradient: Any, arguments: Any, draws: int = DRAWS) -> Any:
    """What the benchmark keeps of many gradients."""
    every = jax.jit(jax.vmap(lambda key: problem.measured(gradient(key, arguments))))
    found = every(jax.random.split(jax.random.key(0), draws))
    rows = np.concatenate([np.reshape(x, (draws, -1)) for x in jax.tree.leaves(found)], 1).astype(np.float64)
    kept = bench.contest.Moments(truth)
    for row in rows:
        kept.add(1.0, row)
    return kept


@pytest.mark.parametrize("name", ["vae", "hmm"])
def test_the_exact_gradient_is_that_of_an_enumeration(
    bench: Any, problems: Any, truths: Any, name: str
) -> None:
    """Of all choices of the program; the benchmark's own is of codes, or the marginals of a chain."""
    problem = problems[name]
    objective = problem.objective(lambda at: ppl.estimators.Reinforce())
    exact = jax.grad(lambda params: objective.exact(params, None))(problem.params)
    np.testing.assert_allclose(problem.flat(exact), truths[name], atol=1e-5)


def test_the_quadrature_of_one_factor_is_a_closed_form(bench: Any) -> None:
    """For z ~ Gamma(a, b) and one row w of loadings E log(z w) = digamma(a) - log b + log w."""
    problem = bench.problems.factors(batch=2, count=1, steps=0)
    a, b = (np.exp(np.float64(problem.params[name])) for name in ("log_concentration", "log_rate"))
    w, x = (np.float64(problem.constants[name]) for name in ("loadings", "counts"))
    shape, rate = np.float64(problem.constants["prior"])
    mean_log = digamma(a) - np.log(b)
    likelihood = np.sum(x * (mean_log + np.log(w)) - gammaln(x + 1) - a / b * w)
    prior = (shape - 1) * mean_log - rate * a / b + shape * np.log(rate) - gammaln(shape)
    entropy = a - np.log(b) + gammaln(a) + (1 - a) * digamma(a)
    with jax.enable_x64(True):
        double = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)
        found = float(problem.elbo(double(problem.params), double(problem.constants)))
    assert found == pytest.approx(likelihood + np.sum(prior + entropy), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "estimators"),
    [
        ("vae", ("Reinforce()", 'Reinforce("average")')),
        ("hmm", ("Reinforce()", "Enumerate()")),
        ("factors", ("Reinforce()", "Reparam()")),
        ("mixture", ("Reinforce()", "MeasureValued()")),
    ],
)
def test_our_gradients_are_unbiased_and_the_second_has_less_variance(
    bench: Any, problems: Any, truths: Any, name: str, estimators: tuple[str, str]
) -> None:
    problem, found = problems[name], []
    for estimator in estimators:
        gradient, arguments = bench.estimators.gradient_of(problem, entry_of(bench, estimator), tuning=20)
        found.append(moments(bench, problem, truths[name], gradient, arguments))
        assert found[-1].unbiased, (estimator, found[-1].off)
    first, second = found
    errors = first.variance * first.variance_error, second.variance * second.variance_error
    assert first.variance - second.variance > bench.contest.ERRORS * np.hypot(*errors)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of GenJAX's dependencies
@pytest.mark.parametrize("library", ["genjax", "numpyro"])
def test_the_verdict_on_choices_in_a_scan_of_others(
    bench: Any, problems: Any, truths: Any, library: str
) -> None:
    """The benchmark says that their means are wrong: if they are repaired, the page must follow."""
    forms = getattr(bench, library).PROBLEMS["hmm"](problems["hmm"])
    (form,) = [form for form in forms if "in scan" in form]
    found = moments(bench, problems["hmm"], truths["hmm"], forms[form], problems["hmm"].params)
    assert not found.unbiased


def test_moments_are_those_of_a_normal_law(bench: Any) -> None:
    random = np.random.default_rng(0)
    truth, scale = np.array([1.0, -2.0, 0.5]), np.array([1.0, 2.0, 0.1])
    right, wrong = bench.contest.Moments(truth), bench.contest.Moments(truth)
    for noise in scale * random.normal(size=(4_000, 3)):
        right.add(1.0, truth + noise)
        wrong.add(1.0, 1.2 * truth + noise)
    assert right.variance == pytest.approx(np.sum(scale**2), rel=0.1)
    assert wrong.variance == pytest.approx(right.variance)
    # The variance of a squared distance of normals is 2 tr(C**2).
    expected = (2 * np.sum(scale**4) / right.count) ** 0.5 / np.sum(scale**2)
    assert right.variance_error == pytest.approx(expected, rel=0.1)
    assert right.unbiased and not wrong.unbiased
    assert wrong.along[0] == pytest.approx(1.2, abs=5 * wrong.along[1])


def test_the_deviation_over_lanes(bench: Any) -> None:
    """Of x**2 (x - m) with x ~ Normal(m, 1): 15 + 14 m**2 + m**4. Ours is constant, the other is not."""
    truth = (15 + 14 * 0.3**2 + 0.3**4) ** 0.5
    for lanes in (1, 20):
        assert bench.lanes.deviation(bench.lanes.ours, lanes, False) == pytest.approx(truth, rel=0.05)
        assert bench.lanes.deviation(bench.lanes.of_numpyro, lanes, False) == pytest.approx(truth, rel=0.05)
    assert bench.lanes.deviation(bench.lanes.of_genjax, 20, False, 2_000) > 3 * truth
