"""Laws of the other transformations on random programs, against sums over everything that can happen."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from ppl.testing.integrate import integrate
from ppl.testing.programs import Program, programs
from ppl.transforms.stage import split, stage

KEY = jax.random.key(77)
PROGRAMS: list[Program] = []


@seed(40)
@settings(
    max_examples=60, deadline=None, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(programs(illegal=0.0, size=3, expectations=False))
def _collect(program: Program) -> None:
    PROGRAMS.append(program)


_collect()
PROGRAMS = list(dict.fromkeys(PROGRAMS))[:40]
numbered = pytest.mark.parametrize("number", range(len(PROGRAMS)))


def theta(program: Program) -> jax.Array:
    return jnp.asarray(program.theta)


@numbered
@pytest.mark.usefixtures("x64")
def test_simulate_and_generate_agree_with_the_sum_over_everything(number: int) -> None:
    """`E[retval]` of a trace; and `sum over y of E[exp(weight) retval]`, where the first choice is y."""
    program = PROGRAMS[number]
    measure = program.generative
    first = program.block.statements[0]
    answer = program.answer().value
    supports = {"flip": [False, True], "categorical": [0, 1, 2]}.get(getattr(first, "family", ""), [])

    def simulated(key: Any, t: Any) -> Any:
        trace = measure(t).simulate(key)
        again = measure(t).log_density(trace.choices)
        return trace.retval, jnp.abs(again - trace.log_density)

    def generated(key: Any, t: Any, y: Any) -> Any:
        trace, log_weight = measure(t).generate(key, {first.name: y})
        return jnp.exp(log_weight) * jnp.stack([trace.retval, 1.0])

    retval, difference = integrate(simulated, KEY, theta(program)).mean
    np.testing.assert_allclose(retval, answer, rtol=1e-7, atol=1e-7)
    assert difference < 1e-10
    if supports:
        parts = [integrate(generated, KEY, theta(program), jnp.asarray(y)).mean for y in supports]
        np.testing.assert_allclose(sum(parts), [answer, 1.0], rtol=1e-7, atol=1e-7)


LARGE = {3, 9, 11, 12, 27, 28}
"""Two runs of these have more combinations of noise than can be summed."""


@pytest.mark.parametrize("number", [number for number in range(len(PROGRAMS)) if number not in LARGE])
@pytest.mark.usefixtures("x64")
def test_changed_traces_have_the_weights_that_make_them_traces(number: int) -> None:
    """`E[exp(weight) retval]` of a trace updated to other arguments, or with a choice drawn anew."""
    program = PROGRAMS[number]
    measure = program.generative
    first = program.block.statements[0]
    answer = program.answer().value
    other = theta(program) * 0.9 + 0.05

    def updated(key: Any, t: Any, start: Any) -> Any:
        trace = measure(start).simulate(jax.random.fold_in(key, 0))
        trace, log_weight = measure(t).update(jax.random.fold_in(key, 1), trace, {})
        return jnp.exp(log_weight) * jnp.stack([trace.retval, 1.0])

    def regenerated(key: Any, t: Any) -> Any:
        trace = measure(t).simulate(jax.random.fold_in(key, 0))
        trace, log_weight = measure(t).regenerate(jax.random.fold_in(key, 1), trace, first.name)
        return jnp.exp(log_weight) * jnp.stack([trace.retval, 1.0])

    np.testing.assert_allclose(
        integrate(updated, KEY, theta(program), other).mean, [answer, 1.0], rtol=1e-7, atol=1e-7
    )
    np.testing.assert_allclose(
        integrate(regenerated, KEY, theta(program)).mean, [answer, 1.0], rtol=1e-7, atol=1e-7
    )


SHORT = sorted(range(len(PROGRAMS)), key=lambda number: len(PROGRAMS[number].source))[:28:2]
"""Of the others some take half a minute to compile."""


@pytest.mark.parametrize("number", SHORT)
def test_compiled_and_mapped_is_what_it_is_alone(number: int) -> None:
    program = PROGRAMS[number]
    objective, keys = program.expectation, jax.random.split(KEY, 3)
    alone = [objective.value_and_grad(key, theta(program)) for key in keys[:1]]
    mapped = jax.jit(jax.vmap(objective.value_and_grad, (0, None)))(keys, theta(program))
    for part, whole in zip(jax.tree.leaves(alone[0]), jax.tree.leaves(mapped), strict=True):
        np.testing.assert_allclose(part, whole[0], rtol=2e-4, atol=2e-5)
    surrogate = jax.grad(lambda t: objective.surrogate(keys[0], t))(theta(program))
    value = objective.surrogate(keys[0], theta(program))
    assert np.isfinite(value) and surrogate.shape == (2,)


@numbered
def test_staging_twice_gives_the_same(number: int) -> None:
    program = PROGRAMS[number]
    one, other = (stage(program.function, split(((theta(program),), {}))) for _ in range(2))
    assert str(one.jaxpr) == str(other.jaxpr) and list(one.choices) == list(other.choices)
