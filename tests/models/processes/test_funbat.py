"""FunBaT: what it is in special cases, and that its two ways of inference are of one model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.gaussian_process.kernels import Matern

import ppl
from models.__main__ import main
from models.common.linear_gaussian import Sites, thinned
from models.common.matern import matern, white
from models.processes.funbat import conjugate, data, generic, rescaling, statistics, tuning
from models.processes.funbat.model import Approximation, Mode, entries, guide, model
from models.processes.funbat.statistics import Entries

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
    mean, spread = statistics.predict(found.beliefs, np.arange(5)[:, None])
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
    fixed = statistics.of_vector(jnp.asarray(known), jnp.zeros((6, 3, 3)))
    beliefs = start._replace(factors=(start.factors[0], fixed))
    toward = jax.grad(statistics.expected_log_likelihood)(beliefs, seen).factors[0]
    found, _ = statistics.of_factor(modes[0], Sites(-2.0 * toward.second, toward.mean))
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
        assert_allclose(statistics.elbo(modes, seen, found.q), found.elbos[-1], rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_spread_of_functions_is_in_the_norm_of_the_prior():
    """S_ij = E[u_i' K^-1 u_j] over seen indices, by a dense kernel; all else is integrated out."""
    random = np.random.default_rng(4)
    times, at = np.array([0.0, 0.1, 0.35, 0.5, 0.9]), np.array([0, 2, 3])
    half, mode = random.normal(size=(3, 2, 2)), Mode(*matern(times, 0.3, 1, 2))
    precision, linear = half @ half.transpose(0, 2, 1), random.normal(size=(3, 2))
    sites = Sites(
        jnp.zeros((5, 2, 2)).at[at].set(jnp.asarray(precision)), jnp.zeros((5, 2)).at[at].set(linear)
    )
    inverse = np.linalg.inv(Matern(0.3, nu=1.5)(times[at][:, None]))
    # Indices first, then functions: u has entries (t, i).
    weight = np.kron(inverse, np.eye(2))
    for t in range(3):
        weight[2 * t : 2 * t + 2, 2 * t : 2 * t + 2] += precision[t]
    covariance = np.linalg.inv(weight)
    mean = covariance @ linear.ravel()
    second = (covariance + np.outer(mean, mean)).reshape(3, 2, 3, 2)
    exact = np.einsum("st,sitj->ij", inverse, second)
    assert_allclose(rescaling.spread(mode, sites, 3.0), exact, rtol=1e-8)


def test_a_chain_without_some_of_its_states_is_the_process_at_the_others():
    times, at = np.array([0.0, 0.1, 0.35, 0.5, 0.9]), np.array([1, 2, 4])
    found, exact = thinned(matern(times, 0.3, 1, 2)[0], at), matern(times[at], 0.3, 1, 2)[0]
    for own, other in zip(found, exact, strict=True):
        assert_allclose(own, other, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("excess", [5.0, -3.0])
def test_a_rescaling_is_the_least_divergence(excess):
    """(tr(S X) + tr(C X^-1) - excess log det X) / 2 has no slope at X = D'D; more core than indices too."""
    spread, core = (half @ half.T for half in np.random.default_rng(5).normal(size=(2, 3, 3)))
    matrix = rescaling.root(jnp.asarray(spread), jnp.asarray(core), excess)
    found = matrix.T @ matrix
    assert_allclose(found @ spread @ found, excess * found + core, atol=1e-8)
    assert np.linalg.eigvalsh(found).min() > 0


@pytest.mark.usefixtures("x64")
def test_both_ways_reach_one_bound_from_different_starts():
    """Rank one, two modes: message passing from two starts, and gradients of the program."""
    random = np.random.default_rng(6)
    times = np.sort(random.random((2, 9)), axis=1)
    modes = tuple(Mode(*matern(t, 0.5, 1)) for t in times)
    index = np.stack(np.meshgrid(np.arange(9), np.arange(8), indexing="ij"), -1).reshape(-1, 2)
    value = np.cos(3 * times[0][index[:, 0]]) * (1 + times[1][index[:, 1]]) + 0.05 * random.normal(size=72)
    seen = Entries(index, value)
    ends = [
        conjugate.fit(jax.random.key(seed), modes, seen, sweeps=60, precision=100.0).elbos[-1]
        for seed in range(2)
    ]
    assert_allclose(ends[0], ends[1], atol=1e-3)
    found = generic.fit(
        jax.random.key(7), modes, seen, steps=600, num_samples=8, precision=100.0, progress=False
    )
    bound = statistics.elbo(modes, seen, found.q)
    # A bound that is below the best of its family by less than 1 %, and above by no more than rounding.
    assert ends[0] > 30
    assert -0.01 * abs(ends[0]) < bound - ends[0] < 1e-3


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
    assert abs(jnp.mean(draws) - statistics.elbo(modes, seen, q)) < ERRORS * error
    assert error < 0.05


def test_what_is_held_out_is_held_out():
    """No row of the unseen days and years is trained on; every entry but the doubly unseen is in one set."""
    split = data.carbon_dioxide(0)
    parts = (split.train, *split.tests.values())
    entries_of = [set(map(tuple, part.index)) for part in parts]
    assert sum(map(len, entries_of)) == len(set().union(*entries_of)) == sum(len(p.value) for p in parts)
    for name, mode in (("unseen year", 0), ("unseen day", 1)):
        assert not set(split.tests[name].index[:, mode]) & set(split.train.index[:, mode])
    assert len(np.unique(split.train.index[:, 0])) == 44 - 6
    assert (
        0.25
        < len(split.tests["seen"].value) / (len(split.train.value) + len(split.tests["seen"].value))
        < 0.35
    )


def test_the_settings_of_the_photograph_are_chosen_by_what_was_read():
    """Places are held out in all channels, and no pixel of the test set is at hand."""
    photo = data.photograph(0, side=16).data
    rest, judged = tuning.held_out(photo, 0)
    places = lambda part: set(map(tuple, part.index[:, :2]))
    assert not places(rest.train) & places(judged)
    assert places(rest.train) | places(judged) == places(photo.train)
    assert not rest.tests


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
