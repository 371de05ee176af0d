"""How much returns and baselines lower the variance of scores; and what `learn` does with them.

Means are in `test_returns`. A variance ratio is reported with an interval: of the logarithm, five standard
errors wide, by the delta method on the fourth moments; it misses with a probability of about 6e-7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, override

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
from jax.extend.core import jaxprs_in_params
from scipy.stats import poisson

import ppl
from ppl.distributions.density import log_density
from ppl.estimators import Enumerate, Estimator, MeasureValued, Reinforce, magic_box
from ppl.estimators.baselines import Learned, MovingAverage
from ppl.estimators.protocol import Contribution
from ppl.testing.integrate import integrate

from .laws import ERRORS, KEY, close

sigmoid = jax.nn.sigmoid


class Ratio(NamedTuple):
    """Of two variances, with the ends of its interval."""

    value: float
    low: float
    high: float


def gradients(program: Callable[[Any], Any], theta: Any, runs: int, **options: Any) -> np.ndarray:
    """Independent gradients, one row each."""
    keys = jax.random.split(jax.random.key(KEY), runs)
    found = jax.jit(jax.vmap(lambda key: ppl.expectation(program).grad(key, theta, **options)))(keys)
    return np.asarray(found, np.float64).reshape(runs, -1)


def ratio(one: np.ndarray, other: np.ndarray) -> Ratio:
    """The total variance of `one` over that of `other`; rows are independent."""

    def total(x: np.ndarray) -> tuple[float, float]:
        squares = np.sum((x - x.mean(0)) ** 2, axis=1)
        return float(squares.mean()), float(squares.std() / squares.mean() / np.sqrt(len(x)))

    (a, da), (b, db) = total(one), total(other)
    width = np.exp(ERRORS * np.hypot(da, db))
    return Ratio(a / b, a / b / width, a / b * width)


# --- lanes ----------------------------------------------------------------------------------------


def mean_over_lanes(count: int, how: Any) -> Callable[[Any], Any]:
    """The mean reward of lanes, with a parameter for each, as in variational inference over data points."""
    targets = jnp.sin(jnp.arange(count) * 1.0)

    def program(t: Any) -> Any:
        def lane(t: Any, y: Any) -> Any:
            x = ppl.normal(t, 1.0).using(how) @ "x"
            return -((x - y) ** 2)

        return jnp.mean(jax.vmap(lane)(jnp.broadcast_to(t, (count,)), targets))

    return program


@pytest.mark.parametrize("shared", [False, True], ids=["a parameter a lane", "one for all"])
def test_the_spread_of_a_lane_does_not_grow_with_the_number_of_lanes(shared: bool) -> None:
    """The spread of a lane's gradient, from 1 to 1,000 lanes. With the whole result it would grow tenfold."""
    spreads = {}
    for count, runs in [(1, 20_000), (10, 4_000), (100, 2_000), (1000, 1_000)]:
        theta = jnp.asarray(0.5) if shared else jnp.full(count, 0.5)
        found = gradients(mean_over_lanes(count, Reinforce()), theta, runs)
        # Of the mean over lanes each lane's parameter sees one in `count`; a shared one sees their mean.
        scale = np.sqrt(count) if shared else count
        spreads[count] = float(np.sqrt(np.mean(np.var(found, axis=0)))) * scale
    assert max(spreads.values()) < 1.5 * min(spreads.values()), spreads


@pytest.mark.parametrize("independent", [False, True], ids=["each entry sees both", "entries apart"])
def test_a_score_multiplies_log_densities_with_their_normalizers(independent: bool) -> None:
    """Though `-rate` is a sum over the coins and `log n!` is moved by none, a Poisson density stays whole.

    Entries of an `Independent` distribution are told apart: those of the other coin are no part of a return.
    """
    loads, counts = jnp.array([[3.0, 0.5], [1.0, 4.0]]), jnp.array([9, 6])
    mixed = lambda z: z * jnp.diag(loads) if independent else z @ loads
    prior = jnp.array([0.3, 0.6])

    @ppl.gen
    def model() -> Any:
        z = ppl.flip(prior) @ "z"
        rate = 1.0 + mixed(jnp.asarray(z, jnp.result_type(float)))
        ppl.dist(npd.Poisson(rate).to_event(1) if independent else npd.Poisson(rate)) @ "x"

    @ppl.gen
    def guide(t: Any) -> Any:
        ppl.flip(sigmoid(t)).using(Reinforce()) @ "z"

    program = lambda t: ppl.elbo(model().condition({"x": counts}), guide(t))
    with jax.enable_x64(True):
        t = jnp.array([0.4, -0.8])
        both = lambda key, t: (lambda g: (g, g**2))(ppl.expectation(program).grad(key, t))
        found, square = integrate(both, jax.random.key(KEY), t).mean
        q = np.asarray(sigmoid(t))

    z = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    each = np.where(z, q, 1 - q)
    own = np.log(np.where(z, prior, 1 - prior) / each)  # of each coin: log prior less log guide
    likelihood = poisson.logpmf(counts, 1.0 + np.asarray(mixed(z)))
    seen = likelihood if independent else likelihood.sum(1, keepdims=True)
    estimate = (z - q) * (own + seen - 1)
    weight = np.prod(each, axis=1, keepdims=True)
    mean = np.sum(weight * estimate, axis=0)
    np.testing.assert_allclose(found, mean, rtol=1e-6)
    np.testing.assert_allclose(square, np.sum(weight * estimate**2, axis=0), rtol=1e-6)


def test_enumerated_lanes_have_no_variance() -> None:
    def program(t: Any) -> Any:
        x = jax.vmap(lambda t: ppl.flip(sigmoid(t)).using(Enumerate()) @ "x")(t)
        return jnp.mean(jnp.exp(x * t))

    theta = jnp.linspace(-1.0, 1.0, 50)
    found = gradients(program, theta, 5)
    exact = jax.grad(lambda t: jnp.mean(sigmoid(t) * jnp.exp(t) + 1 - sigmoid(t)))(theta)
    np.testing.assert_allclose(found, np.broadcast_to(exact, found.shape), rtol=1e-5)


@pytest.mark.parametrize("how", [Enumerate(), MeasureValued()], ids=lambda how: type(how).__name__)
def test_neighbors_are_replaced_in_two_runs(how: Estimator) -> None:
    """Terms of neighbors: however many there are, two runs a phantom, of which each instance sees its own."""

    def program(t: Any) -> Any:
        x = (ppl.flip(sigmoid(t)).using(how) @ "x").astype(float)
        return jnp.sum(x[1:] * x[:-1] * jnp.exp(t[1:]))

    def runs(count: int) -> set[int]:
        jaxpr = jax.make_jaxpr(ppl.expectation(program).grad)(jax.random.key(0), jnp.zeros(count))
        return {
            v.aval.shape[0]
            for e in _equations(jaxpr.jaxpr)
            for v in e.outvars
            if v.aval.shape[1:] == (count,)
        }

    assert runs(40) == runs(80)
    plain = gradients(lambda t: program(t), jnp.zeros(20), 2_000)
    close("gradient", plain, jax.grad(_neighbors)(np.zeros(20)))


def _neighbors(t: Any) -> Any:
    p = sigmoid(t)
    return jnp.sum(p[1:] * p[:-1] * jnp.exp(t[1:]))


def _equations(jaxpr: Any) -> Any:
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _equations(inner)


# --- a hidden Markov chain ------------------------------------------------------------------------

STEPS = 100
OBSERVED = jnp.sin(0.3 * jnp.arange(STEPS))


def _next(t: Any, z: Any) -> Any:
    return sigmoid(t[0] + 1.5 * z - 0.7)


def _reward(t: Any, z: Any, y: Any) -> Any:
    return -((y - t[1] * z) ** 2)


def hidden_chain(t: Any) -> Any:
    def step(z: Any, y: Any) -> Any:
        z = (ppl.flip(_next(t, z)).using(Reinforce()) @ "z").astype(float)
        return z, _reward(t, z, y)

    return jnp.sum(jax.lax.scan(step, 0.0, OBSERVED)[1])


def by_hand(key: Any, t: Any, to_go: bool) -> Any:
    """The textbook's score-function gradient of the chain: each score times the reward to go."""
    bernoulli = lambda p, z: z * jnp.log(p) + (1 - z) * jnp.log1p(-p)

    def step(z: Any, inputs: Any) -> Any:
        key, y = inputs
        new = jax.random.bernoulli(key, _next(t, z)).astype(float)
        score = jax.grad(lambda t: bernoulli(_next(t, z), new))(t)
        return new, (score, *jax.value_and_grad(_reward)(t, new, y))

    _, (scores, rewards, direct) = jax.lax.scan(step, 0.0, (jax.random.split(key, STEPS), OBSERVED))
    weights = jnp.cumsum(rewards[::-1])[::-1] if to_go else jnp.full(STEPS, jnp.sum(rewards))
    return jnp.sum(scores * weights[:, None] + direct, axis=0)


def test_a_chain_has_the_variance_of_the_reward_to_go() -> None:
    theta, runs = jnp.array([0.2, 0.5]), 20_000
    found = gradients(hidden_chain, theta, runs)
    keys = jax.random.split(jax.random.key(KEY + 1), runs)
    to_go, whole = (
        np.asarray(jax.jit(jax.vmap(lambda key, way=way: by_hand(key, theta, way)))(keys), np.float64)
        for way in (True, False)
    )
    error = np.hypot(found.std(0), to_go.std(0)) / np.sqrt(runs)
    assert np.all(np.abs(found.mean(0) - to_go.mean(0)) < ERRORS * error), "they estimate the same gradient"
    assert ratio(found, to_go).high < 1.2
    assert ratio(found, whole).high < 0.5


# --- baselines ------------------------------------------------------------------------------------


def offset(how: Any) -> Callable[[Any], Any]:
    """A reward far from zero, of lanes and a chain; `how` at every choice."""

    def program(t: Any) -> Any:
        x = jax.vmap(lambda s: ppl.normal(t * s, 1.0).using(how) @ "x")(jnp.array([1.0, 0.5]))

        def step(z: Any, _: Any) -> Any:
            z = (ppl.flip(sigmoid(t + z)).using(how) @ "z").astype(float)
            return z, jnp.where(z > 0.5, 6.0, 5.0)

        return jnp.sum(jnp.exp(3.0 - 0.05 * x**2)) + jnp.sum(jax.lax.scan(step, 0.0, None, 5)[1])

    return program


def test_leave_one_out_lowers_variance() -> None:
    theta = jnp.asarray(0.3)
    plain = gradients(offset(Reinforce()), theta, 4_000, num_samples=4)
    found = gradients(offset(Reinforce(baseline="loo")), theta, 4_000, num_samples=4)
    assert ratio(found, plain).high < 0.2
    error = np.hypot(found.std(0), plain.std(0)) / np.sqrt(4_000)
    assert np.all(np.abs(found.mean(0) - plain.mean(0)) < ERRORS * error)


def learned_gradients(program: Callable[..., Any], state: Any, args: Any, runs: int) -> Any:
    objective = ppl.expectation(program)
    keys = jax.random.split(jax.random.key(KEY + 2), runs)
    found = jax.jit(jax.vmap(lambda key: objective.learn(key, state, *args).grad))(keys)
    return jax.tree.map(lambda x: np.asarray(x, np.float64), found)


def test_a_moving_average_lowers_variance() -> None:
    program, theta = offset(Reinforce(baseline="average")), jnp.asarray(0.3)
    objective = ppl.expectation(program)
    learn = jax.jit(lambda key, state: objective.learn(key, state, theta).state)
    state = objective.initial_state(theta)
    assert {name: total.shape for name, (total, _) in state.items()} == {"x": (1,), "z": (5,)}
    for step in range(60):
        state = learn(jax.random.fold_in(jax.random.key(KEY), step), state)
    found = learned_gradients(program, state, (theta,), 4_000).reshape(-1, 1)
    plain = gradients(offset(Reinforce()), theta, 4_000)
    assert ratio(found, plain).high < 0.2
    error = np.hypot(found.std(0), plain.std(0)) / np.sqrt(4_000)
    assert np.all(np.abs(found.mean(0) - plain.mean(0)) < ERRORS * error)


def test_an_average_for_each_lane_lowers_variance_where_lanes_differ() -> None:
    def program(how: Any) -> Callable[[Any], Any]:
        def lane(t: Any, level: Any) -> Any:
            x = ppl.normal(t, 1.0).using(how) @ "x"
            return level * jnp.exp(-0.05 * x**2)

        return lambda t: jnp.sum(jax.vmap(lane, (None, 0))(t, jnp.array([30.0, -10.0, 4.0])))

    theta, found = jnp.asarray(0.3), {}
    for each in (False, True):
        made = program(Reinforce(baseline=MovingAverage(per_lane=each)))
        objective = ppl.expectation(made)
        learn = jax.jit(lambda key, state, of=objective: of.learn(key, state, theta).state)
        state = objective.initial_state(theta)
        assert state["x"][0].shape == ((3,) if each else (1,))
        for step in range(60):
            state = learn(jax.random.fold_in(jax.random.key(KEY), step), state)
        found[each] = learned_gradients(made, state, (theta,), 4_000).reshape(-1, 1)
    assert ratio(found[True], found[False]).high < 0.2
    error = np.hypot(found[True].std(0), found[False].std(0)) / np.sqrt(4_000)
    assert np.all(np.abs(found[True].mean(0) - found[False].mean(0)) < ERRORS * error)


def test_a_moving_average_is_that_of_the_returns() -> None:
    """Against the recursion, from the values of the steps: the return of the only choice is the value."""

    @ppl.expectation
    def reward(p: Any) -> Any:
        return jnp.where(ppl.flip(p).using(Reinforce(baseline=MovingAverage(0.7))) @ "win", 5.0, 3.0)

    state, total, weight = reward.initial_state(0.4), 0.0, 0.0
    assert jax.tree.leaves(state) == [0.0, 0.0]
    for step in range(8):
        value, slope, state = reward.learn(jax.random.fold_in(jax.random.key(KEY), step), state, 0.4)
        baseline = total / weight if weight else 0.0
        score = 1 / 0.4 if value == 5 else -1 / 0.6
        np.testing.assert_allclose(slope, (value - baseline) * score, rtol=1e-5)
        total, weight = 0.7 * total + 0.3 * value, 0.7 * weight + 0.3
        np.testing.assert_allclose(state["win"], (total, weight), rtol=1e-5)


def test_a_baseline_that_has_been_learned_lowers_variance() -> None:
    """The prediction sees what came before: of a return that differs from state to state."""

    def program(t: Any, table: Any) -> Any:
        k = ppl.categorical(jnp.full(3, 1 / 3)).using(Reinforce()) @ "k"
        x = ppl.normal(t, 1.0).using(Reinforce(baseline=Learned(table[k]))) @ "x"
        return jnp.array([10.0, -5.0, 30.0])[k] * jnp.exp(-0.05 * x**2)

    theta = jnp.asarray(0.3)
    best = jnp.array([10.0, -5.0, 30.0]) * 0.95
    plain = learned_gradients(program, {}, (theta, jnp.zeros(3)), 4_000).reshape(-1, 1)
    found = learned_gradients(program, {}, (theta, best), 4_000).reshape(-1, 1)
    assert ratio(found, plain).high < 0.3


@pytest.mark.parametrize("maximize", [True, False])
def test_the_direction_of_a_learned_baseline_is_that_of_its_regression(maximize: bool) -> None:
    """Against `sum of (return - prediction)**2 / 2`, written out; up where values go up, else down."""

    @ppl.expectation
    def reward(params: Any) -> Any:
        how = Reinforce(baseline=Learned(params["b"] * jnp.array([1.0, 2.0])))
        x = ppl.flip(jnp.stack([params["p"], 0.3])).using(how) @ "x"
        return jnp.sum(x * jnp.array([3.0, 5.0]))

    params = {"p": jnp.asarray(0.4), "b": jnp.asarray(0.7)}
    for step in range(4):
        key = jax.random.fold_in(jax.random.key(KEY), step)
        value, grads, state = reward.learn(key, {}, params, maximize=maximize)
        returns = {0.0: (0, 0), 3.0: (3, 0), 5.0: (0, 5), 8.0: (3, 5)}[float(value)]
        regression = sum((r - 0.7 * c) * c for r, c in zip(returns, (1, 2), strict=True))
        np.testing.assert_allclose(grads["b"], regression if maximize else -regression, rtol=1e-5)
        score = 1 / 0.4 if returns[0] else -1 / 0.6
        np.testing.assert_allclose(grads["p"], (returns[0] - 0.7) * score, rtol=1e-5)
        assert state == {}


def test_a_parameter_of_the_program_and_of_a_baseline_gets_the_plain_gradient() -> None:
    def program(how: Callable[[Any], Any]) -> Any:
        return ppl.expectation(lambda t: 2.0 * (ppl.flip(sigmoid(t)).using(Reinforce(how(t))) @ "x") + t**2)

    key, theta = jax.random.key(KEY), jnp.asarray(0.4)
    found = program(lambda t: Learned(3 * t)).learn(key, {}, theta)
    np.testing.assert_allclose(found.grad, program(lambda t: 1.2).grad(key, theta), rtol=1e-5)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Controlled(Estimator):
    """A score with a control variate: a multiple of the score, whose expected value is zero."""

    multiple: Any
    usage: ClassVar[str] = "Controlled(multiple)"

    @override
    def admits(self, distribution: Any) -> bool:
        return True

    @override
    def contribute(self, distribution: Any, noise: Any, order: int) -> Contribution:
        made = Reinforce().contribute(distribution, noise, order)
        return made._replace(control=self.multiple * (1 - magic_box(log_density(distribution, made.value))))


def test_a_control_variate_is_trained_to_lower_the_variance() -> None:
    """The direction is minus the derivative of half the second moment: of rewards 6 and 10, each for half of
    the draws and with the same squared scores, `8 - multiple`."""

    def program(t: Any, multiple: Any) -> Any:
        x = ppl.normal(t, 1.0).using(Controlled(multiple)) @ "x"
        return jnp.where(x > 0, 6.0, 10.0)

    keys, theta = jax.random.split(jax.random.key(KEY), 20_000), jnp.asarray(0.0)
    learn = lambda key, m: ppl.expectation(program).learn(key, {}, theta, m, argnums=(0, 1)).grad
    slopes = {}
    for multiple in (0.0, 3.0, 8.0):
        slope, direction = jax.jit(jax.vmap(learn, (0, None)))(keys, jnp.asarray(multiple))
        close("direction", np.asarray(direction, np.float64), 8.0 - multiple)
        close("gradient", np.asarray(slope, np.float64), -4 / np.sqrt(2 * np.pi))
        slopes[multiple] = np.asarray(slope, np.float64).reshape(-1, 1)
    assert ratio(slopes[8.0], slopes[3.0]).high < 0.5
    assert ratio(slopes[3.0], slopes[0.0]).high < 0.7


# --- refusals -------------------------------------------------------------------------------------


def test_leave_one_out_of_one_sample_is_refused() -> None:
    objective = ppl.expectation(lambda t: (ppl.normal(t, 1.0).using(Reinforce("loo")) @ "x") ** 2)
    with pytest.raises(ppl.errors.UnsupportedProgram, match=r"'x'.*num_samples=4"):
        objective.grad(jax.random.key(0), 0.3)


def test_a_word_that_is_no_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="'loo', 'average'"):
        Reinforce(baseline="mean")


@pytest.mark.parametrize("baseline", ["loo", "average"])
def test_a_baseline_of_returns_in_a_loop_of_unknown_length_is_refused(baseline: str) -> None:
    def program(t: Any) -> Any:
        step = lambda state: (state[0] + 1, ppl.normal(t, 1.0).using(Reinforce(baseline)).propose().retval)
        return jax.lax.while_loop(lambda state: state[0] < 3, step, (0, 0.0))[1]

    with pytest.raises(ppl.errors.UnsupportedProgram, match="while loop"):
        ppl.expectation(program).jvp(jax.random.key(0), (0.3,), (1.0,), num_samples=4)
