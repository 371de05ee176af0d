"""Training where estimators learn too: averages are kept, resumed, and left alone by a bad step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ppl
from ppl.estimators import Reinforce
from ppl.estimators.baselines import Learned

KEY = jax.random.key(20250614)
OPTIMIZER = optax.adam(0.05)


@ppl.expectation
def averaged(params: Any) -> Any:
    """Lanes and a chain with moving averages; best where both logits are large."""
    how = Reinforce(baseline="average")
    x = jax.vmap(lambda s: ppl.flip(jax.nn.sigmoid(params["logit"])).using(how) @ "x")(jnp.arange(3.0))

    def step(z: Any, _: Any) -> Any:
        z = (ppl.flip(jax.nn.sigmoid(params["drift"] + z)).using(how) @ "z").astype(float)
        return z, z

    zs = jax.lax.scan(step, 0.0, None, 4)[1]
    return 50.0 * jnp.mean(x) + jnp.sum(zs)


@ppl.expectation
def learned(params: Any) -> Any:
    x = ppl.normal(params["loc"], 1.0).using(Reinforce(baseline=Learned(params["baseline"]))) @ "x"
    return 30.0 * jnp.cos(0.0 * x) - (x - 1.0) ** 2


START = {"logit": jnp.zeros(()), "drift": jnp.zeros(())}


def fit(objective: Any, params: Any, steps: int, **options: Any) -> Any:
    return ppl.fit(objective, params, OPTIMIZER, key=KEY, steps=steps, progress=False, **options)


def same(first: Any, second: Any) -> None:
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_run_with_averages_converges_and_goes_on_bit_for_bit() -> None:
    whole = fit(averaged, START, 150, num_samples=4)
    assert whole.params["logit"] > 2.0
    assert whole.params["drift"] > 2.0
    assert set(whole.estimator_state) == {"x", "z"}
    assert whole.estimator_state["z"][0].shape == (4,)
    first = fit(averaged, START, 70, num_samples=4, block_size=33)
    second = fit(
        averaged, first.params, 80, num_samples=4, start=first.step, optimizer_state=first.optimizer_state,
        estimator_state=first.estimator_state, block_size=7,
    )  # fmt: skip
    same(second.params, whole.params)
    same(second.estimator_state, whole.estimator_state)
    forgotten = fit(
        averaged, first.params, 80, num_samples=4, start=first.step, optimizer_state=first.optimizer_state
    )
    assert float(forgotten.params["logit"]) != float(whole.params["logit"])


def test_averages_approach_the_returns() -> None:
    result = fit(averaged, {"logit": jnp.asarray(4.0), "drift": jnp.asarray(4.0)}, 60, num_samples=20)
    total, weight = result.estimator_state["x"]
    np.testing.assert_allclose(total / weight, 50 / 3 * 0.98, rtol=0.05)
    total, weight = result.estimator_state["z"]
    np.testing.assert_allclose(total / weight, [3.95, 2.97, 1.98, 0.99], rtol=0.06)


@pytest.mark.parametrize("maximize", [True, False])
def test_a_learned_baseline_approaches_the_return(maximize: bool) -> None:
    objective = learned if maximize else ppl.expectation(lambda params: -learned.function(params))
    params = {"loc": jnp.zeros(()), "baseline": jnp.zeros(())}
    result = ppl.fit(
        objective,
        params,
        optax.adam(0.2),
        key=KEY,
        steps=600,
        maximize=maximize,
        num_samples=4,
        progress=False,
    )
    np.testing.assert_allclose(result.params["loc"], 1.0, atol=0.4)
    np.testing.assert_allclose(result.params["baseline"], 29.0 if maximize else -29.0, atol=1.5)
    assert result.estimator_state == {}


def test_a_bad_step_leaves_the_averages_as_they_were() -> None:
    """The objective has no value for one row of the data."""

    @ppl.expectation
    def objective(t: Any, row: Any) -> Any:
        x = ppl.flip(jax.nn.sigmoid(t)).using(Reinforce(baseline="average")) @ "x"
        return jnp.sum(jnp.sqrt(row)) * (1 + x)

    data = np.array([1.0, 2.0, 3.0, 4.0, -1.0], np.float32)
    options: dict[str, Any] = {"data": data, "batch_size": 1}
    with pytest.raises(ppl.errors.NonFiniteObjective) as caught:
        fit(objective, jnp.zeros(()), 5, **options)
    stopped = caught.value.result
    assert 0 < stopped.step < 5 or stopped.step == 0
    before = fit(objective, jnp.zeros(()), stopped.step, **options)
    same(stopped.estimator_state, before.estimator_state)
    same(stopped.params, before.params)
    value = objective.learn(
        caught.value.key, stopped.estimator_state, caught.value.params, *caught.value.batch
    ).value
    assert not np.isfinite(value), "the error replays the step"


def test_a_program_without_such_estimators_is_trained_as_before() -> None:
    @ppl.expectation
    def objective(params: Any) -> Any:
        x = ppl.normal(params["loc"], 1.0) @ "x"
        y = ppl.flip(jax.nn.sigmoid(params["logit"])).using(Reinforce(baseline=0.5)) @ "y"
        return -((x - 1.0) ** 2) + y * x

    class Plain:
        """What trained before there was `learn`."""

        value_and_grad = objective.value_and_grad

    params = {"loc": jnp.zeros(()), "logit": jnp.zeros(())}
    assert objective.initial_state(params) == {}
    result = fit(objective, params, 20)
    assert result.estimator_state == {}
    before = fit(Plain(), params, 20)
    same(
        (result.params, result.values, result.optimizer_state),
        (before.params, before.values, before.optimizer_state),
    )
    found = objective.learn(KEY, {}, params)
    same((found.value, found.grad), objective.value_and_grad(KEY, params))
    assert found.state == {}
