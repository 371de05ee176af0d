"""The catalogue of objectives: values and derivatives against sums over all draws, and what each bounds.

Sums and `exact` hold to rounding. Tests that draw have fixed keys and say how far off they may be.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as npd
import pytest
import scipy.stats
from numpyro.infer import RenyiELBO

import ppl
from ppl.errors import MissingChoice, SupportMismatch, UnknownAddress
from ppl.estimators import Enumerate, MeasureValued, Reinforce
from ppl.objectives import (
    chi_moment,
    chi_upper,
    f_divergence,
    jeffreys,
    renyi,
    scaled,
    simulation_jeffreys,
    sleep,
    tempered,
    thermodynamic,
    wake_guide,
    wake_model,
)
from ppl.testing import check_unbiased

from .problems import COINS, NORMAL, Grid, logpdf, sigmoid

THETA = np.array([0.9, -0.6])
"""Where the guide of the two coins is far from even, and from the posterior."""
BETAS = (0.0, 0.2, 0.7, 1.0)
sg = jax.lax.stop_gradient


def over_draws(grid: Grid, particles: int, value: Callable[[Any, Any], Any]) -> Any:
    """The expected value of a function of the log weights and the numbers of all particles, by a sum."""
    ids = jnp.array(list(itertools.product(range(len(grid.log_q)), repeat=particles)))
    chances = jnp.prod(grid.weights[ids], axis=1)
    return jnp.sum(chances * jax.vmap(value)((grid.log_p - grid.log_q)[ids], ids))


def power(order: float) -> Callable[[Any, Any], Any]:
    return lambda r, _: jnp.log(jnp.mean(jnp.exp(order * r))) / order


def riemann(betas: Any, upper: bool) -> Callable[[Any, Any], Any]:
    def value(r: Any, _: Any) -> Any:
        mean = lambda b: jnp.sum(jnp.exp(b * r) * r) / jnp.sum(jnp.exp(b * r))
        pairs = itertools.pairwise(betas)
        return sum((right - left) * mean(right if upper else left) for left, right in pairs)

    return value


def fixed(grid: Grid) -> Grid:
    return Grid(*(sg(jnp.asarray(column)) for column in grid))


def wake(of: str, particles: int) -> Callable[[Any], Any]:
    """The truth of a wake phase at parameters `t`, of which draws and shares are those of `THETA`."""

    def truth(t: Any) -> Any:
        live = getattr(COINS.grid(t), of)
        held = COINS.grid(jnp.asarray(THETA))
        value = lambda r, ids: jnp.sum(jnp.exp(r) / jnp.sum(jnp.exp(r)) * live[ids])
        return over_draws(held, particles, value)

    return truth


def coins_likelihood(t: Any) -> Any:
    return jnp.stack([logpdf(1.3, a + 2.0 * b * t[1], 1.0) for a, b in itertools.product((0, 1), (0, 1))])


def weighted_elbo(t: Any) -> Any:
    grid, likelihood = COINS.grid(t), coins_likelihood(t)
    terms = 0.3 * likelihood + 1.7 * (grid.log_p - likelihood - grid.log_q)
    return jnp.sum(grid.weights * terms)


def of_coins(particles: int, value: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    return lambda t: over_draws(COINS.grid(t), particles, value)


SKEWED = lambda r: jnp.exp(1.5 * r) * (r + 3.0)
Truth = Callable[[Any], Any]
PAIRS: dict[str, tuple[Any, Truth]] = {
    "renyi(-1)": (renyi(-1.0, 2), of_coins(2, power(2.0))),
    "renyi(0)": (renyi(0, 2), lambda t: COINS.grid(t).iwelbo(2)),
    "renyi(1/2)": (renyi(0.5, 2), of_coins(2, power(0.5))),
    "renyi(1)": (renyi(1, 2), lambda t: COINS.grid(t).elbo()),
    "renyi(3)": (renyi(3.0, 2), of_coins(2, power(-2.0))),
    "chi_upper": (chi_upper(2), of_coins(2, power(2.0))),
    "chi_upper(3.5)": (chi_upper(2, order=3.5), of_coins(2, power(3.5))),
    "chi_moment": (chi_moment(3.0, -1.2), of_coins(1, lambda r, _: jnp.exp(3.0 * (r[0] + 1.2)))),
    "f_divergence": (f_divergence(SKEWED), of_coins(1, lambda r, _: SKEWED(r[0]))),
    "thermodynamic": (thermodynamic(2, BETAS), of_coins(2, riemann(BETAS, False))),
    "thermodynamic, upper": (thermodynamic(2, BETAS, upper=True), of_coins(2, riemann(BETAS, True))),
    "tempered": (tempered(0.3, 1.7), weighted_elbo),
    "wake_model": (wake_model(2), wake("log_p", 2)),
    "wake_guide": (wake_guide(2), wake("log_q", 2)),
}
HOW = {"scored": Reinforce(), "enumerated": Enumerate(), "measure-valued": MeasureValued()}


# The objectives know nothing of estimators, so that one of each kind is enough for the others.
ONE_OF_A_KIND = ("renyi(-1)", "thermodynamic", "tempered", "wake_guide")
CASES = [(name, "scored") for name in PAIRS] + [
    (name, how) for name in ONE_OF_A_KIND for how in ("enumerated", "measure-valued")
]


@pytest.mark.parametrize(("name", "how"), CASES)
def test_value_and_gradient_are_those_of_the_sum_over_all_draws(name: str, how: str, key: jax.Array) -> None:
    program, truth = PAIRS[name]
    objective = ppl.expectation(lambda t: program(COINS.target(t), COINS.guide(t).using({"*": HOW[how]})))
    report = check_unbiased(objective, (THETA,), key=key, against=truth, method="exact")
    assert report.verdict == "unbiased"


# --- what is equal to what ------------------------------------------------------------------------


def exact(program: Callable[..., Any], *args: Any) -> float:
    return float(ppl.expectation(program).exact(*(args or (jnp.asarray(THETA),))))


def coins(program: Callable[..., Any]) -> float:
    return exact(lambda t: program(COINS.target(t), COINS.guide(t)))


def log_z() -> float:
    return float(jax.nn.logsumexp(COINS.grid(jnp.asarray(THETA)).log_p))


@pytest.mark.usefixtures("x64")
def test_members_of_families_are_one_another() -> None:
    elbo = coins(ppl.elbo)
    same = {
        "iwelbo(1)": (ppl.iwelbo(1), elbo),
        "renyi(0)": (renyi(0, 3), coins(ppl.iwelbo(3))),
        "renyi(1)": (renyi(1, 3), elbo),
        "renyi of one particle": (renyi(-2.5, 1), elbo),
        "renyi(-1)": (renyi(-1, 3), coins(chi_upper(3))),
        "one interval": (thermodynamic(3), elbo),
        "tempered": (tempered(), elbo),
        "divergence": (f_divergence(lambda r: -r), -elbo),
        "moment of order one, nearly": (chi_moment(1 + 1e-9), math.exp(log_z())),
    }
    for name, (program, value) in same.items():
        assert coins(program) == pytest.approx(value, abs=1e-7), name


@pytest.mark.usefixtures("x64")
def test_renyi_is_continuous_at_one() -> None:
    at_one, slope = coins(renyi(1, 3)), 0.5 * 1e-5 * 20
    for alpha in (1 - 1e-5, 1 + 1e-5):
        assert coins(renyi(alpha, 3)) == pytest.approx(at_one, abs=slope)
    assert abs(coins(renyi(0.9, 3)) - at_one) > 0.01, "the test can fail"


# --- what bounds what -----------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_bounds_are_ordered() -> None:
    """Grow with particles, fall with the order, and stay below the evidence where that is promised."""
    iwelbos = [coins(ppl.iwelbo(n)) for n in (1, 2, 3)]
    assert all(b - a > 1e-3 for a, b in itertools.pairwise([*iwelbos, log_z()]))
    orders = [coins(renyi(alpha, 3)) for alpha in (-1.0, 0.0, 0.5, 1.0, 3.0)]
    assert all(a - b > 1e-3 for a, b in itertools.pairwise(orders))
    assert orders[0] > log_z() > orders[1], "one below zero promises nothing, and here it is above"
    for alpha in (0.5, 3.0):
        growing = [coins(renyi(alpha, n)) for n in (1, 2, 3)]
        assert max(growing) < log_z()
        # Above one the power mean falls with the particles: theorem 2.
        assert all((b - a) * (1 - alpha) > -1e-12 for a, b in itertools.pairwise(growing))


@pytest.mark.usefixtures("x64")
def test_chi_bounds() -> None:
    """The moment bounds the evidence from above; its logarithm by few particles does not."""
    cubo = {k: math.log(coins(chi_moment(k))) / k for k in (1.5, 2.0, 4.0)}
    assert log_z() < cubo[1.5] < cubo[2.0] < cubo[4.0]
    few = [coins(chi_upper(n)) for n in (2, 3, 4)]
    assert few[0] < few[1] < few[2] < cubo[2.0]
    assert few[0] < log_z(), "that of two particles is no upper bound: what the documentation says"
    scaled_moment = coins(chi_moment(2.0, log_scale=log_z()))
    assert scaled_moment == pytest.approx(math.exp(2 * (cubo[2.0] - log_z())))
    assert scaled_moment > 1


@pytest.mark.usefixtures("x64")
def test_thermodynamic_sums_enclose_the_evidence() -> None:
    grid = COINS.grid(jnp.asarray(THETA))
    weights, r = grid.weights, grid.log_p - grid.log_q
    tilted = lambda b: float(jnp.sum(weights * jnp.exp(b * r) * r) / jnp.sum(weights * jnp.exp(b * r)))
    sums = [
        sum((right - left) * tilted((left, right)[side]) for left, right in itertools.pairwise(BETAS))
        for side in (0, 1)
    ]
    assert sums[0] < log_z() < sums[1]
    for n in (2, 3):
        left, right = (coins(thermodynamic(n, BETAS, upper)) for upper in (False, True))
        assert coins(ppl.elbo) < left < coins(ppl.iwelbo(n)) < right
        assert left < log_z()
    # Many particles in one draw: off by less than 0.03, five standard errors of 20,000 particles.
    for upper, limit in zip((False, True), sums, strict=True):
        objective = ppl.expectation(
            lambda t: thermodynamic(20_000, BETAS, upper)(COINS.target(t), COINS.guide(t))  # noqa: B023
        )
        assert objective.estimate(jax.random.key(3), THETA) == pytest.approx(limit, abs=0.03)


@pytest.mark.usefixtures("x64")
def test_tempered_bounds_the_tempered_evidence() -> None:
    grid, likelihood = COINS.grid(jnp.asarray(THETA)), coins_likelihood(THETA)
    for a in (0.0, 0.5, 1.0, 3.0):
        evidence = float(jax.nn.logsumexp(grid.log_p - likelihood + a * likelihood))
        assert coins(tempered(likelihood=a)) < evidence
    assert coins(tempered(divergence=4.0)) < coins(tempered(divergence=1.5)) < coins(ppl.elbo)

    @ppl.gen
    def one() -> Any:
        ppl.flip(jnp.where(ppl.flip(0.3) @ "a", 0.9, 0.2)) @ "y"

    # The exact posterior of the tempered target: the bound is tight.
    mass = 0.3 * 0.9**0.5, 0.7 * 0.2**0.5
    posterior = ppl.gen(lambda p: ppl.flip(p) @ "a")
    bound = lambda p: tempered(likelihood=0.5)(one().condition({"y": True}), posterior(p))
    assert exact(bound, mass[0] / sum(mass)) == pytest.approx(math.log(sum(mass)))


# --- values in closed form ------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_f_divergences_of_categoricals() -> None:
    p, q = np.array([0.1, 0.3, 0.6]), np.array([0.5, 0.3, 0.2])
    entropy = scipy.stats.entropy
    closed = {
        "reverse": (lambda r: -r, entropy(q, p)),
        "forward": (lambda r: jnp.exp(r) * r, entropy(p, q)),
        "jeffreys": (lambda r: jnp.expm1(r) * r, entropy(p, q) + entropy(q, p)),
        "alpha": (lambda r: jnp.expm1(3.0 * r) / 6.0, (np.sum(p**3 / q**2) - 1) / 6.0),
        "hellinger": (lambda r: 1 - jnp.exp(r / 2), 1 - np.sum(np.sqrt(p * q))),
    }
    for name, (f, value) in closed.items():
        program = lambda p, q: f_divergence(f)(ppl.categorical(probs=p), ppl.categorical(probs=q))  # noqa: B023
        assert exact(program, p, q) == pytest.approx(value), name
    program = lambda p, q: jeffreys(ppl.categorical(probs=p), ppl.categorical(probs=q))
    assert exact(program, p, q) == pytest.approx(closed["jeffreys"][1])
    assert exact(program, q, p) == pytest.approx(closed["jeffreys"][1])


def test_continuous_values_and_gradients(key: jax.Array) -> None:
    """A moment and a divergence under a reparameterized guide, by quadrature."""

    def of_normal(value: Callable[[Any], Any]) -> Truth:
        def truth(t: Any) -> Any:
            grid = NORMAL.grid(t)
            return jnp.sum(grid.weights * value(grid.log_p - grid.log_q))

        return truth

    pairs = {
        "moment": (chi_moment(2.0, -1.0), of_normal(lambda r: jnp.exp(2.0 * (r + 1.0)))),
        "divergence": (f_divergence(lambda r: jnp.expm1(r / 2)), of_normal(lambda r: jnp.expm1(r / 2))),
    }
    for program, truth in pairs.values():
        objective = ppl.expectation(lambda t: program(NORMAL.target(t), NORMAL.guide(t)))  # noqa: B023
        theta = np.array([0.6, 0.4])
        assert check_unbiased(objective, (theta,), key=key, against=truth).verdict == "unbiased"


@pytest.mark.parametrize("alpha", [-0.5, 0.4, 2.0])
def test_renyi_is_numpyros(alpha: float, key: jax.Array) -> None:
    """Means of 20,000 draws of each differ by less than five standard errors: one false alarm in 1.7e6."""

    def model() -> None:
        x = numpyro.sample("x", npd.Normal(0.2, 1.1))
        numpyro.sample("y", npd.Normal(x, 0.8), obs=0.7)

    def guide() -> None:
        numpyro.sample("x", npd.Normal(-0.3, 0.9))

    theirs = RenyiELBO(alpha=alpha, num_particles=4)
    ours = ppl.expectation(lambda t: renyi(alpha, 4)(NORMAL.target(t), NORMAL.guide(t)))
    t = jnp.array([-0.3, 0.0])
    keys = jax.random.split(key, 20_000)
    draws = [
        np.asarray(jax.jit(jax.vmap(one))(keys))
        for one in (lambda k: -theirs.loss(k, {}, model, guide), lambda k: ours.estimate(k, t))
    ]
    error = math.hypot(*(d.std() / math.sqrt(len(d)) for d in draws))
    assert abs(draws[0].mean() - draws[1].mean()) < 5 * error
    assert error < 0.02


# --- wake and sleep -------------------------------------------------------------------------------


@ppl.gen
def weather(params: Any) -> Any:
    rain = ppl.flip(sigmoid(params["prior"])) @ "rain"
    ppl.flip(jnp.where(rain, sigmoid(params["wet"]), 0.15)) @ "wet"


@ppl.gen
def forecast(params: Any, wet: Any) -> Any:
    ppl.flip(jnp.where(wet, sigmoid(params["yes"]), sigmoid(params["no"]))) @ "rain"


MODEL, GUIDE = ("prior", "wet"), ("yes", "no")
PARAMS = {"prior": -0.8, "wet": 1.1, "yes": 0.4, "no": -1.5}
of_data = lambda params: lambda data: forecast(params, data["wet"])


def joint(params: Any, wet: int) -> tuple[Any, Any]:
    """Log densities of the model, and of the guide, of no rain and of rain."""
    prior, wet_if_rain = sigmoid(params["prior"]), sigmoid(params["wet"])
    likelihood = [0.15, wet_if_rain] if wet else [0.85, 1 - wet_if_rain]
    guess = sigmoid(params["yes" if wet else "no"])
    log_p = jnp.log(jnp.stack([(1 - prior) * likelihood[0], prior * likelihood[1]]))
    return log_p, jnp.log(jnp.stack([1 - guess, guess]))


def weather_wake(program: Any) -> Any:
    return ppl.expectation(
        lambda params: program(weather(params).condition({"wet": True}), forecast(params, True))
    )


def test_each_phase_moves_its_own_parameters_alone() -> None:
    phases = {
        "wake_model": (weather_wake(wake_model(3)), MODEL),
        "wake_guide": (weather_wake(wake_guide(3)), ("yes",)),
        "sleep": (ppl.expectation(lambda params: sleep(weather(params), of_data(params), "wet")), GUIDE),
    }
    keys = jax.random.split(jax.random.key(5), 50)
    for name, (objective, own) in phases.items():
        slopes = jax.jit(jax.vmap(lambda k: objective.grad(k, PARAMS)))(keys)  # noqa: B023
        for param, slope in slopes.items():
            assert np.any(slope != 0) == (param in own), f"{name}: {param}"


@pytest.mark.usefixtures("x64")
def test_the_wake_phase_of_the_model_ascends_the_importance_weighted_bound() -> None:
    wanted = jax.grad(weather_wake(ppl.iwelbo(3)).exact)(PARAMS)
    found = jax.grad(weather_wake(wake_model(3)).exact)(PARAMS)
    for name in MODEL:
        assert found[name] == pytest.approx(float(wanted[name]), rel=1e-9), name
        assert abs(found[name]) > 1e-2
    assert found["yes"] == 0 != wanted["yes"]


def test_wake_phases_of_many_particles_are_those_of_the_posterior() -> None:
    """200 draws of 500 particles: within five standard errors, and a bias of less than 2e-3."""
    log_p, _ = joint(PARAMS, 1)
    posterior = jax.nn.softmax(log_p)
    truths = {
        "wake_model": (wake_model(500), lambda params: jnp.dot(posterior, joint(params, 1)[0]), MODEL),
        "wake_guide": (wake_guide(500), lambda params: jnp.dot(posterior, joint(params, 1)[1]), ("yes",)),
    }
    for name, (program, truth, own) in truths.items():
        objective = weather_wake(program)
        keys = jax.random.split(jax.random.key(6), 200)
        slopes = jax.jit(jax.vmap(lambda k: objective.grad(k, PARAMS)))(keys)  # noqa: B023
        wanted = jax.grad(truth)(PARAMS)
        for param in own:
            draws = np.asarray(slopes[param])
            assert abs(draws.mean() - wanted[param]) < 5 * draws.std() / 200**0.5 + 2e-3, f"{name}: {param}"
            assert abs(wanted[param]) > 0.02


@pytest.mark.parametrize("how", ["scored", "enumerated"])
def test_objectives_over_simulations(how: str, key: jax.Array) -> None:
    """Sums over both choices of the model, of data and of what explains them."""

    def dreams(params: Any) -> Any:
        held = {name: PARAMS[name] if name in MODEL else params[name] for name in PARAMS}
        return sum(jnp.dot(jnp.exp(log_p), log_q) for log_p, log_q in (joint(held, w) for w in (0, 1)))

    def symmetric(params: Any) -> Any:
        total = 0.0
        for wet in (0, 1):
            log_p, log_q = joint(params, wet)
            evidence = jax.nn.logsumexp(log_p)
            there, back = jnp.exp(log_p), jnp.exp(evidence + log_q)
            total += jnp.dot(there - back, log_p - log_q)
        return total

    def both(params: Any) -> Any:
        log_p, log_q = (
            [jnp.log(1 - sigmoid(params[k])), jnp.log(sigmoid(params[k]))] for k in ("prior", "no")
        )
        return sum((jnp.exp(a) - jnp.exp(b)) * (a - b) for a, b in zip(log_p, log_q, strict=True))

    rain = ppl.gen(lambda logit: ppl.flip(sigmoid(logit)) @ "rain")
    pairs = {
        "sleep": (lambda params: sleep(weather(params), of_data(params), ["wet"]), dreams),
        "simulation_jeffreys": (
            lambda params: simulation_jeffreys(weather(params), of_data(params), "wet"), symmetric,
        ),
        "jeffreys": (lambda params: jeffreys(rain(params["prior"]), rain(params["no"])), both),
    }  # fmt: skip
    for program, truth in pairs.values():
        objective = ppl.expectation(program).using(lambda *_: HOW[how])
        report = check_unbiased(objective, (PARAMS,), key=key, against=truth, method="exact")
        assert report.verdict == "unbiased"


@pytest.mark.usefixtures("x64")
def test_the_symmetric_divergence_is_zero_at_the_posterior() -> None:
    logit = {w: joint(PARAMS, w)[0] for w in (0, 1)}
    right = PARAMS | {"yes": logit[1][1] - logit[1][0], "no": logit[0][1] - logit[0][0]}
    program = lambda params: simulation_jeffreys(weather(params), of_data(params), "wet")
    assert exact(program, right) == pytest.approx(0.0, abs=1e-12)
    assert exact(program, PARAMS) > 0.01
    slope = jax.grad(ppl.expectation(lambda p: sleep(weather(p), of_data(p), "wet")).exact)(right)
    assert max(abs(x) for x in slope.values()) < 1e-12


# --- minibatches ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_scaled_batches_are_all_data_on_average() -> None:
    rows = {"y": jnp.array([True, False, True, True]), "weight": jnp.array([0.3, 1.1, 0.7, 2.0])}

    def term(params: Any) -> Callable[[Any], Any]:
        return lambda row: (
            row["weight"]
            * ppl.iwelbo(2)(weather(params).condition({"wet": row["y"]}), forecast(params, row["y"]))
        )

    objective = ppl.expectation(lambda params, batch: scaled(term(params), batch, total=4))
    value_and_grad = jax.jit(jax.value_and_grad(objective.exact))
    whole = value_and_grad(PARAMS, rows)
    row = lambda ids: jax.tree.map(lambda x: x[jnp.array(ids)], rows)
    alone = ppl.expectation(lambda params: sum(term(params)(row(i)) for i in range(4)))
    assert whole[0] == pytest.approx(float(alone.exact(PARAMS)))
    parts = [value_and_grad(PARAMS, row(ids)) for ids in itertools.combinations(range(4), 2)]
    assert sum(value for value, _ in parts) / len(parts) == pytest.approx(float(whole[0]))
    for name, slope in whole[1].items():
        assert sum(part[name] for _, part in parts) / len(parts) == pytest.approx(float(slope))


def test_scaled_refuses_wrong_rows() -> None:
    term = lambda row: jnp.sum(row)
    wrong = {
        "a batch of 5 rows out of 4": (term, jnp.zeros(5), 4),
        "got shapes (2,), (3,)": (lambda row: row[0], (jnp.zeros(2), jnp.zeros(3)), 4),
        "got shapes ()": (term, jnp.zeros(()), 4),
        "one or more": (term, jnp.zeros((0, 2)), 4),
        "of no array": (term, {}, 4),
    }
    for message, arguments in wrong.items():
        with pytest.raises(ValueError) as error:
            scaled(*arguments)
        assert message in str(error.value)
    with pytest.raises(TypeError, match=r"term of one row is a scalar, got shape \(2,\)"):
        scaled(lambda row: row, jnp.zeros((3, 2)), 4)
    with pytest.raises(TypeError, match=r"rows of all data is a Python integer, got 4\.0"):
        scaled(term, jnp.zeros(3), 4.0)  # pyright: ignore[reportArgumentType]


# --- refusals -------------------------------------------------------------------------------------

INVALID = {
    "renyi needs at least one particle": lambda: renyi(0.5, 0),
    "alpha of renyi is finite": lambda: renyi(math.inf, 2),
    "chi_upper needs at least two particles": lambda: chi_upper(1),
    "chi_upper needs an order above one": lambda: chi_upper(2, order=1.0),
    "chi_moment needs an order above one": lambda: chi_moment(order=0.5),
    "wake_guide needs at least two particles": lambda: wake_guide(1),
    "thermodynamic needs at least two particles": lambda: thermodynamic(1, upper=True),
    "increase from zero to one, got (0.0, 0.5)": lambda: thermodynamic(2, (0.0, 0.5)),
    "increase from zero to one, got (0.0, 0.7, 0.7, 1.0)": lambda: thermodynamic(2, (0.0, 0.7, 0.7, 1.0)),
    "increase from zero to one, got (1.0,)": lambda: thermodynamic(2, (1.0,)),
}


@pytest.mark.parametrize("message", INVALID)
def test_what_is_no_objective(message: str) -> None:
    with pytest.raises(ValueError) as error:
        INVALID[message]()
    assert message in str(error.value)


def test_alpha_is_not_traced() -> None:
    with pytest.raises(TypeError, match="alpha of renyi is a Python number"):
        jax.jit(lambda alpha: renyi(alpha, 2) and 0.0)(0.5)


def test_refusals_inside_a_program(key: jax.Array) -> None:
    conditioned = weather(PARAMS).condition({"wet": True})
    empty = ppl.gen(lambda: None)
    positive, real = ppl.gen(lambda: ppl.exponential(1.0) @ "x"), ppl.gen(lambda: ppl.normal(0.0, 1.0) @ "x")
    refused: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (ppl.UnsupportedProgram, "is not conditioned", lambda: tempered()(weather(PARAMS), empty())),
        (MissingChoice, "does not propose 'rain'", lambda: tempered()(conditioned, empty())),
        (UnknownAddress, "sleep observes 'rainy'", lambda: sleep(weather(PARAMS), of_data(PARAMS), "rainy")),
        (TypeError, "guide of sleep is a function", lambda: sleep(weather(PARAMS), empty(), "wet")),  # pyright: ignore[reportArgumentType]
        (SupportMismatch, "renyi", lambda: renyi(1.5, 2)(positive(), real())),
        (SupportMismatch, "thermodynamic", lambda: thermodynamic(2)(positive(), real())),
        (ppl.UnsupportedProgram, "wake_guide was given", lambda: wake_guide(2)(
            conditioned, ppl.detached(forecast(PARAMS, True)))),
        (ppl.UnsupportedProgram, "cannot be", lambda: jeffreys(conditioned, forecast(PARAMS, True))),
    ]  # fmt: skip
    for kind, message, program in refused:
        with pytest.raises(kind) as error:
            ppl.expectation(program).estimate(key)
        assert message in str(error.value)


def test_particles_of_weight_zero(key: jax.Array) -> None:
    """They count as zero: no NaN, in value or gradient, where half of the draws have a density of zero."""
    scored = {"x": Reinforce()}  # a reparameterized choice that crosses the edge is refused
    positive, real = (
        ppl.gen(lambda rate: ppl.exponential(rate) @ "x"),
        ppl.gen(lambda m: ppl.normal(m, 1.0) @ "x"),
    )
    for program in (
        renyi(0.5, 8), renyi(-1.0, 8), chi_upper(8), chi_moment(), thermodynamic(8, (0, 0.5, 1), upper=True),
        wake_model(8), wake_guide(8),
    ):  # fmt: skip
        objective = ppl.expectation(lambda t: program(positive(t[0]), real(t[1]).using(scored)))  # noqa: B023
        value, slope = objective.value_and_grad(key, jnp.array([1.0, 0.5]))
        assert np.isfinite(value) and np.all(np.isfinite(slope))


def test_compiled_and_mapped(key: jax.Array) -> None:
    """Under `jit` and `vmap` a draw is what it is alone."""
    objective = ppl.expectation(lambda t: renyi(0.5, 4)(NORMAL.target(t), NORMAL.guide(t)))
    keys = jax.random.split(key, 3)
    together = jax.jit(jax.vmap(objective.grad, (0, None)))(keys, jnp.asarray(THETA, jnp.float32))
    alone = jnp.stack([objective.grad(k, jnp.asarray(THETA, jnp.float32)) for k in keys])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
