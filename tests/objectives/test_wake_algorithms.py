"""Wake phases whose posterior draws are those of an algorithm: by enumeration of everything it draws."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import Reinforce, Reparam, Unscored
from ppl.infer import HMC, SMC, Importance, Multinomial, Regenerate, Systematic, Tempered
from ppl.objectives import wake_guide, wake_model
from ppl.testing import check_unbiased

sigmoid = jax.nn.sigmoid
SEEN = jnp.array([True, False])
THETA = np.array([0.5, -0.6, 1.0])
"""Of the model, and of the guide where the last state was true, and false."""


@ppl.gen
def chain(t: Any) -> None:
    def step(z: Any, _: Any) -> tuple[Any, None]:
        z = ppl.flip(jnp.where(z, sigmoid(t[0]), 0.3)) @ "z"
        ppl.flip(jnp.where(z, 0.8, 0.25)) @ "y"
        return z, None

    jax.lax.scan(step, jnp.asarray(True), None, length=2)


@ppl.gen
def guide(t: Any) -> None:
    def step(z: Any, _: Any) -> tuple[Any, None]:
        z = ppl.flip(jnp.where(z, sigmoid(t[1]), sigmoid(t[2]))) @ "z"
        return z, None

    jax.lax.scan(step, jnp.asarray(True), None, length=2)


def objective(program: Any) -> Any:
    return ppl.expectation(lambda t: program(chain(t).condition({"y": SEEN}), guide(t)))


def log_p_step(t: Any, last: int, z: int, y: int) -> Any:
    chance = sigmoid(t[0]) if last else 0.3
    emission = 0.8 if z else 0.25
    return jnp.log(chance if z else 1 - chance) + jnp.log(emission if y else 1 - emission)


def log_q_step(t: Any, last: int, z: int) -> Any:
    chance = sigmoid(t[1]) if last else sigmoid(t[2])
    return jnp.log(chance if z else 1 - chance)


def of_path(step: Callable[..., Any], t: Any, path: tuple[int, ...], *seen: int) -> Any:
    lasts = (1, *path)
    more = [(y,) for y in seen] if seen else [()] * len(path)
    return sum(step(t, lasts[i], z, *more[i]) for i, z in enumerate(path))


LIVE = {
    "model": lambda t, path: of_path(log_p_step, t, path, 1, 0),
    "guide": lambda t, path: of_path(log_q_step, t, path),
}


def filtered(of: str) -> Callable[[Any], Any]:
    """Two particles of a filter, whose proposal is the guide: a sum over the 64 ways that they may go."""

    def truth(t: Any) -> Any:
        total, coins = 0.0, list(itertools.product((0, 1), repeat=2))
        for first in coins:
            log_w = np.array([float(log_p_step(THETA, 1, z, 1) - log_q_step(THETA, 1, z)) for z in first])
            shares = np.exp(log_w) / np.exp(log_w).sum()
            chance = np.prod([np.exp(float(log_q_step(THETA, 1, z))) for z in first])
            for ancestors in coins:
                of_lines = np.prod(shares[list(ancestors)])
                paths = [(first[a],) for a in ancestors]
                for second in coins:
                    drawn = [float(log_q_step(THETA, p[0], z)) for p, z in zip(paths, second, strict=True)]
                    scored = [
                        float(log_p_step(THETA, p[0], z, 0)) for p, z in zip(paths, second, strict=True)
                    ]
                    last = np.exp(np.array(scored) - np.array(drawn))
                    weight = chance * of_lines * np.exp(sum(drawn))
                    whole = [(*p, z) for p, z in zip(paths, second, strict=True)]
                    live = jnp.stack([LIVE[of](t, path) for path in whole])
                    total += weight * jnp.dot(last / last.sum(), live)
        return total

    return truth


FILTER = lambda q: SMC(2, q)


@pytest.mark.parametrize(("of", "phase"), [("guide", wake_guide), ("model", wake_model)])
def test_a_wake_phase_along_a_filter_is_the_sum_over_all_that_it_draws(
    of: str, phase: Any, key: jax.Array
) -> None:
    report = check_unbiased(objective(phase(FILTER)), (THETA,), key=key, against=filtered(of), method="exact")
    assert report.verdict == "unbiased"


PATHS = list(itertools.product((0, 1), repeat=2))


def under_the_posterior(of: str) -> Any:
    log_p = jnp.stack([LIVE["model"](THETA, path) for path in PATHS])
    live = lambda t: jnp.dot(jax.nn.softmax(log_p), jnp.stack([LIVE[of](t, path) for path in PATHS]))
    return jax.grad(live)(jnp.asarray(THETA))


POSTERIORS = {
    "NASMC": lambda q: SMC(300, q, resampling=Systematic()),
    "NASMC, seldom resampled": lambda q: SMC(300, q, threshold=0.9),
    "a filter of its own": SMC(300),
    "moved particles": Tempered(300, Regenerate("z"), 2),
    "importance sampling": Importance(300),
}


@pytest.mark.parametrize("name", POSTERIORS)
def test_by_many_particles_it_is_that_of_the_posterior(name: str) -> None:
    """100 draws of 300 particles: within five standard errors, and a bias of less than 5e-3."""
    slopes = jax.vmap(lambda k: objective(wake_guide(POSTERIORS[name])).grad(k, THETA))
    draws = np.asarray(slopes(jax.random.split(jax.random.key(3), 100)))
    wanted = under_the_posterior("guide")
    error = np.abs(draws.mean(0) - wanted)
    assert np.all(error < 5 * draws.std(0) / 100**0.5 + 5e-3)
    assert abs(wanted[1]) > 0.05 and wanted[0] == 0 == draws[:, 0].max()


def test_nothing_of_an_algorithm_is_differentiated(key: jax.Array) -> None:
    """A proposal with the live parameters, made in the objective, is held fixed too."""
    live = ppl.expectation(lambda t: wake_guide(SMC(2, guide(t)))(chain(t).condition({"y": SEEN}), guide(t)))
    report = check_unbiased(live, (THETA,), key=key, against=filtered("guide"), method="exact")
    assert report.verdict == "unbiased"


@ppl.gen
def straight(t: Any) -> None:
    x = ppl.normal(t, 1.0) @ "x"
    ppl.normal(x, 0.5) @ "y"


@ppl.gen
def bent(t: Any) -> None:
    x = ppl.normal(t, 1.0) @ "x"
    ppl.normal(jnp.where(x > t, x, 0.0), 0.5) @ "y"  # the target jumps, where its parameter is


def test_moves_along_gradients_and_targets_that_jump_are_held_fixed_too() -> None:
    """No move along gradients has a derivative, and no jump is crossed: 100 draws, five standard errors."""
    moved = Tempered(50, HMC(0.3, 3), 4)
    objective = ppl.expectation(lambda t: wake_guide(moved)(bent(t).condition({"y": 1.0}), normal_guide(t)))
    draws = np.asarray(jax.vmap(lambda k: objective.grad(k, 0.2))(jax.random.split(jax.random.key(4), 100)))
    x = np.linspace(-8, 8, 40_001)
    log_p = -0.5 * (x - 0.2) ** 2 - 0.5 * ((1.0 - np.where(x > 0.2, x, 0.0)) / 0.5) ** 2
    mean = np.average(x, weights=np.exp(log_p))
    assert abs(draws.mean() - (mean - 0.2)) < 5 * draws.std() / 10 + 0.02


@pytest.mark.parametrize("model", [straight, bent])
def test_an_earlier_choice_is_not_held(model: Any) -> None:
    """A pathwise derivative would stop at the wake phase; a score is right: five standard errors of 400."""

    def program(how: Any) -> Any:
        def program(t: Any) -> Any:
            earlier = ppl.normal(t, 0.5).using(how).propose().retval
            return wake_guide(5)(model(earlier).condition({"y": 1.0}), normal_guide(0.4))

        return ppl.expectation(program)

    with pytest.raises(ppl.UnsupportedProgram, match=r"a wake phase .* through .*normal.* would stop there"):
        program(Reparam()).grad(jax.random.key(0), 0.2)
    keys = jax.random.split(jax.random.key(5), 400)
    value = lambda t: jax.vmap(lambda k: program(Reparam()).estimate(k, t, num_samples=2000))(keys)
    draws = jax.vmap(lambda k: program(Reinforce()).grad(k, 0.2, num_samples=2000))(keys)
    slopes = np.asarray((value(0.3) - value(0.1)) / 0.2)
    error = np.hypot(slopes.std(), np.asarray(draws).std()) / 20
    assert abs(slopes.mean() - draws.mean()) < 5 * error + 2e-3
    assert abs(slopes.mean()) > 10 * error


@ppl.gen
def normal_guide(t: Any) -> None:
    ppl.normal(t, 1.0) @ "x"


def test_what_is_no_algorithm_is_refused() -> None:
    with pytest.raises(TypeError, match="function from the guide to one; this function returned 3"):
        objective(wake_guide(lambda q: 3)).estimate(jax.random.key(0), THETA)
    with pytest.raises(TypeError, match="Python integer"):
        wake_model("many")
    counts = ppl.gen(lambda: ppl.poisson(2.0) @ "z")
    with pytest.raises(ppl.PPLError, match="'z'"):
        ppl.expectation(
            lambda t: wake_guide(Importance(3))(counts(), ppl.gen(lambda: ppl.normal(t, 1.0) @ "z")())
        ).estimate(jax.random.key(0), 0.0)


def test_scored_ancestors_do_not_reach_the_gradient() -> None:
    """However the ancestors are scored, each draw of the gradient is the same."""
    one = objective(wake_guide(lambda q: SMC(4, q)))
    other = objective(wake_guide(lambda q: SMC(4, q, resampling=Multinomial(Unscored()))))
    np.testing.assert_allclose(
        one.grad(jax.random.key(0), THETA), other.grad(jax.random.key(0), THETA), rtol=1e-5
    )
