"""FunBaT: what it is in special cases, and that its two ways of inference are of one model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.gaussian_process.kernels import Matern

import ppl
from models.__main__ import main
from models.common.linear_gaussian import Sites
from models.common.matern import matern, white
from models.processes.funbat import conjugate, data
from models.processes.funbat.conjugate import Entries
from models.processes.funbat.model import Approximation, Mode, entries, guide, model

# A normal deviate passes five standard errors with probability 6e-7.
ERRORS = 5.0
SEEN = 14


@pytest.fixture(scope="module")
def problem():
    """Three modes, each with an index of which nothing is seen; of equal shapes, to be compiled once."""
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        modes = tuple(Mode(*matern(np.sort(random.random(4)), length, 1, 2)) for length in (0.3, 0.5, 0.8))
        index = random.integers(0, 3, (SEEN, 3))
        return modes, Entries(index, random.normal(size=SEEN))


@pytest.mark.usefixtures("x64")
def test_one_mode_is_gaussian_process_regression():
    """With W = 1 and K = 1: y = u(t) + e. Repeated indices; a new index in between; noise as E[τ] says."""
    random = np.random.default_rng(1)
    times = np.array([0.0, 0.1, 0.35, 0.5, 0.9])
    rows, y = np.array([0, 1, 1, 2, 4, 4, 4]), random.normal(size=7)
    modes = (Mode(*matern(times, 0.3, 1)),)
    seen = Entries(rows[:, None], y)
    found = conjugate.fit(jax.random.key(0), modes, seen, sweeps=1, held=1, precision=7.0, tucker=False)
    kernel = lambda a, b: Matern(0.3, nu=1.5)(a[:, None], b[:, None])
    gram = kernel(times[rows], times[rows]) + np.eye(7) / 7.0
    cross = kernel(times, times[rows])
    mean, spread = conjugate.predict(found.beliefs, np.arange(5)[:, None])
    assert_allclose(mean, cross @ np.linalg.solve(gram, y), rtol=1e-9)
    assert_allclose(spread**2, 1.0 - np.sum(cross * np.linalg.solve(gram, cross.T).T, 1), rtol=1e-8)


@pytest.mark.usefixtures("x64")
def test_cp_with_one_mode_fixed_is_bayesian_linear_regression():
    """Three functions summed, of a mode with the white prior, where the other mode is known."""
    random = np.random.default_rng(2)
    known = random.normal(size=(6, 3))
    modes = Mode(*white(1, 3)), Mode(*white(6, 3))
    seen = Entries(np.stack([np.zeros(6, int), np.arange(6)], 1), random.normal(size=6))
    start = conjugate.start(jax.random.key(0), modes, 5.0, tucker=False)
    fixed = conjugate.of_vector(jnp.asarray(known), jnp.zeros((6, 3, 3)))
    beliefs = start._replace(factors=(start.factors[0], fixed))
    toward = jax.grad(conjugate.expected_log_likelihood)(beliefs, seen).factors[0]
    found, _ = conjugate.of_factor(modes[0], Sites(-2.0 * toward.second, toward.mean))
    covariance = np.linalg.inv(np.eye(3) + 5.0 * known.T @ known)
    exact = 5.0 * covariance @ known.T @ seen.value
    assert_allclose(found.mean[0], exact, rtol=1e-9)
    assert_allclose(found.second[0], covariance + np.outer(exact, exact), rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_entries_are_the_kronecker_product_of_the_paper():
    random = np.random.default_rng(3)
    rows = [random.normal(size=(2, rank)) for rank in (2, 3, 2)]
    core = random.normal(size=12)
    exact = [core @ np.kron(np.kron(rows[0][n], rows[1][n]), rows[2][n]) for n in range(2)]
    assert_allclose(entries(jnp.asarray(core), [jnp.asarray(row) for row in rows]), exact, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_message_passing_never_lowers_the_bound(problem):
    """With exact second moments, while the precision is held and after; the bound is that of the guide."""
    modes, seen = problem
    for tucker in (True, False):
        found = conjugate.fit(
            jax.random.key(1), modes, seen, sweeps=25, held=5, precision=50.0, tucker=tucker
        )
        assert np.diff(found.elbos).min() > -1e-9
        assert found.elbos[-1] > found.elbos[0] + 1.0
        assert_allclose(conjugate.elbo(modes, seen, found.q), found.elbos[-1], rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_closed_form_is_the_bound_of_the_program(problem):
    """`ppl.elbo` of model and guide, averaged over draws, for a guide that is no optimum."""
    modes, seen = problem
    q = conjugate.fit(jax.random.key(2), modes, seen, sweeps=3, held=1, precision=4.0).q

    @ppl.expectation
    def bound(q: Approximation):
        return ppl.elbo(model(modes, seen.index).condition({"y": seen.value}), guide(modes, q))

    draws = jax.jit(jax.vmap(lambda key: bound.estimate(key, q)))(jax.random.split(jax.random.key(3), 20_000))
    error = jnp.std(draws) / len(draws) ** 0.5
    assert abs(jnp.mean(draws) - conjugate.elbo(modes, seen, q)) < ERRORS * error
    assert error < 0.05


def test_what_is_held_out_is_held_out():
    """No row of the unseen days and years is trained on; every index stays where it was measured."""
    split = data.carbon_dioxide(0)
    assert sum(len(part.value) for part in (split.train, *split.tests.values())) < 2225
    for name, mode in (("unseen year", 0), ("unseen day", 1)):
        assert not set(split.tests[name].index[:, mode]) & set(split.train.index[:, mode])
    assert len(np.unique(split.train.index[:, 0])) == 44 - 6
    photo = data.photograph(0, side=16)
    assert not set(map(tuple, photo.data.tests["pixels"].index)) & set(map(tuple, photo.data.train.index))


def test_ranks_of_cp_are_equal():
    modes = tuple(Mode(*white(2, rank)) for rank in (1, 2))
    with pytest.raises(ValueError, match="one rank for all modes"):
        conjugate.fit(
            jax.random.key(0), modes, Entries(np.zeros((1, 2), int), np.ones(1)), sweeps=1, tucker=False
        )


@pytest.mark.slow
def test_a_quick_run(tmp_path, capsys):
    assert main(["run", "funbat", "--quick", "--silent", "--seeds", "0", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "funbat.png").stat().st_size > 10_000
    assert "unseen year" in capsys.readouterr().out
