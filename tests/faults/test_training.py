"""A step of training that is not finite: named, replayable, and without a trace in what was trained."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ppl
from ppl.estimators import MeasureValued, Reinforce
from ppl.train.block import is_finite

KEY = jax.random.key(0)
OPTIMIZER = optax.adam(0.1)


def train(objective: Any, params: Any, steps: int = 5, **options: Any) -> Any:
    return ppl.fit(objective, params, OPTIMIZER, key=KEY, steps=steps, progress=False, **options)


def stopped(objective: Any, params: Any, steps: int = 5, **options: Any) -> Any:
    with pytest.raises(ppl.errors.NonFiniteObjective) as caught:
        train(objective, params, steps, **options)
    return caught.value


def same(found: Any, expected: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@ppl.gen
def inner(mean):
    a = ppl.normal(mean, 1.0) @ "a"
    return ppl.normal(a, 1.0) @ "b"


@ppl.gen
def model(poison):
    w = ppl.normal(0.0 * poison[0], 1.0) @ "w"
    r = inner(w * poison[1]) @ "sub"
    steps, _ = jax.lax.scan(lambda c, _: (ppl.normal(c * poison[2], 1.0) @ "steps", None), r, None, length=3)
    jax.vmap(lambda m: ppl.normal(m + steps * poison[3], 1.0) @ "lanes")(jnp.arange(2.0))
    ppl.normal(steps, poison[4]) @ "y"


@ppl.gen
def guide(mean):
    for address in ("w", ("sub", "a"), ("sub", "b")):
        ppl.normal(mean, 1.0) @ address
    jax.lax.scan(lambda c, _: (c, ppl.normal(mean, 1.0) @ "steps"), 0.0, None, length=3)
    jax.vmap(lambda m: ppl.normal(m + mean, 1.0) @ "lanes")(jnp.arange(2.0))


@ppl.expectation
def bound(params, poison):
    return ppl.elbo(model(poison).condition({"y": 1.0}), guide(params))


@pytest.mark.parametrize(
    ("place", "address", "shape"),
    [(0, "w", "()"), (1, "sub/a", "()"), (2, "steps", "()"), (3, "lanes", "(2,)"), (4, "y", "()")],
)
@pytest.mark.parametrize("poison", [jnp.nan, jnp.inf])
def test_each_address_is_named_with_its_shape_and_line(place, address, shape, poison):
    found = bound.first_nonfinite(KEY, 0.0, jnp.ones(5).at[place].set(poison))
    assert found is not None
    line = r"test_training\.py:\d+"
    assert re.search(
        rf"^the log density of '{address}' is not finite.*normal of shape {re.escape(shape)}, .*{line}", found
    )


def test_a_poisoned_row_stops_at_its_step_and_nothing_is_lost():
    """The state is, bit for bit, that of a run of so many steps; key, parameters and batch replay it."""
    data = np.zeros(20, np.float32)
    data[13] = np.nan

    @ppl.expectation
    def objective(mean, batch):
        z = ppl.normal(mean, 1.0).propose()
        likelihood = ppl.gen(lambda z: ppl.normal(z * jnp.ones(3), 1.0) @ "rows")
        return likelihood(z.retval).log_density({"rows": batch}) - z.log_density

    error = stopped(objective, jnp.array(0.5), 20, data=data, batch_size=3, block_size=4)
    assert f"stopped at step {error.step}" in str(error)
    assert "the log density of 'rows' is not finite (nan; normal of shape (3,)" in str(error)
    assert np.isnan(error.batch).any()
    before = train(objective, jnp.array(0.5), error.step, data=data, batch_size=3)
    same(error.result[:2], before[:2])
    same(error.params, before.params)
    value, _ = objective.value_and_grad(error.key, error.params, error.batch)
    assert np.isnan(value)


def test_parameters_that_were_not_finite_to_begin_with():
    error = stopped(
        ppl.expectation(lambda p: -((ppl.normal(p["m"], 1.0) @ "x") ** 2)), {"m": jnp.array(jnp.nan)}
    )
    assert "params['m'] [] is not finite before the step: it was given so" in str(error)
    assert "the draw of 'x' (normal" in str(error)


def test_an_overflowing_update_leaves_parameters_and_state_as_they_were():
    """From finite gradients; found at the end of a block or within one."""
    blow_up = optax.scale_by_schedule(lambda count: jnp.where(count == 3, jnp.inf, 1.0))
    objective = ppl.expectation(lambda p: -((ppl.normal(p, 1.0) @ "x") ** 2))
    run = lambda steps, size: ppl.fit(
        objective, jnp.array(0.5), optax.chain(optax.scale(0.01), blow_up), key=KEY, steps=steps,
        block_size=size, progress=False,
    )  # fmt: skip
    expected = run(3, None)
    for size in (1, 4, 100):
        with pytest.raises(ppl.errors.NonFiniteObjective, match="became not finite in an update") as caught:
            run(10, size)
        assert caught.value.step == 3
        same(caught.value.result[:2], expected[:2])
        same(caught.value.params, expected.params)


@pytest.mark.parametrize("shape", [(784, 200), (1025,), (129,), (), (3, 0)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_no_number_is_lost_in_optimized_code(shape, dtype):
    """A maximum of floats loses nan there. Tests are compiled without optimizations, users' code is not."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        look = jax.jit(lambda x: is_finite(x))
        size = int(np.prod(shape))
        largest = jnp.full(shape, jnp.finfo(dtype).max)
        for x in (largest, -largest, jnp.full(shape, jnp.finfo(dtype).tiny)):
            assert look(x)
        for bad in (jnp.nan, -jnp.nan, jnp.inf, -jnp.inf):
            for place in {0, size // 2, size - 1} if size else ():
                spoilt = largest.reshape(-1).at[place].set(bad).reshape(shape)
                assert not look(spoilt), (bad, place)
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.parametrize("optimizer", [optax.clip(0.1), optax.scale_by_sign()], ids=["clipped", "its sign"])
def test_a_gradient_whose_infinity_the_optimizer_hides(optimizer):
    """What it makes of infinity is finite, and so is all that follows."""
    data = jnp.zeros(40).at[17].set(1.0)

    @ppl.expectation
    def objective(mean, batch):
        x = ppl.normal(mean, 1.0) @ "x"
        return jnp.sum(-0.01 * (x - batch) ** 2) + jnp.sqrt(jnp.where(batch[0] == 1.0, 0.0 * x**2, 1.0))

    chain = optax.chain(optimizer, optax.scale(0.01))
    with pytest.raises(ppl.errors.NonFiniteObjective, match="its gradient is not finite") as caught:
        ppl.fit(
            objective, jnp.array(0.5), chain, key=KEY, steps=40, data=data, batch_size=1, progress=False,
            block_size=40,
        )  # fmt: skip
    assert caught.value.batch == 1.0 and len(caught.value.result.values) == caught.value.step


@ppl.gen
def rooted():
    z = ppl.normal(0.0, 1.0) @ "z"
    ppl.normal(z, 1.0) @ "x"
    ppl.normal(jnp.sqrt(0.0 * z), 1.0) @ "u"  # finite, its derivative is not


def _slopes() -> dict[str, tuple[Any, str]]:
    def of_density(p):
        single = ppl.gen(lambda p: ppl.normal(p, 1.0) @ "z")
        return ppl.elbo(rooted().condition({"x": 0.0, "u": 0.0}), single(p))

    def of_draw(p):
        ppl.normal(p, 1.0) @ "fine"
        return ppl.normal(jnp.sqrt(p * 0.0), 1.0) @ "bad"

    def of_score(p):
        return (ppl.normal(p, 1.0) @ "fine") + (ppl.normal(jnp.sqrt(p * 0.0), 1.0).using(Reinforce()) @ "bad")

    def in_lanes(p):
        one = lambda s: ppl.normal(p + jnp.sqrt(s * p * 0.0), 1.0) @ "bad"
        return (ppl.normal(p, 1.0) @ "fine") + jnp.sum(jax.vmap(one)(jnp.ones(3)))

    return {
        "log density": (of_density, "the log density of 'u' (normal of shape ()"),
        "draw": (of_draw, "the draw of 'bad' (normal"),
        "score": (of_score, "the score of 'bad' (normal"),
        "lanes": (in_lanes, "the draw of 'bad' (normal"),
    }


@pytest.mark.parametrize("name", _slopes())
def test_the_choice_whose_derivative_is_not_finite_is_named(name):
    program, expected = _slopes()[name]
    error = stopped(ppl.expectation(program), jnp.array(1.0))
    assert "but its gradient is not finite with respect to params []" in str(error)
    assert expected in str(error) and "is finite, but its derivative is not" in str(error)


@pytest.mark.parametrize("how", [None, MeasureValued()], ids=["summed over", "phantom"])
def test_a_value_that_was_not_drawn_is_named(how):
    """Every draw is 0, where all is well; the estimator looks at 1 too."""

    @ppl.gen
    def coin(p):
        choice = ppl.flip(jax.nn.sigmoid(p - 30.0))
        (choice if how is None else choice.using(how)) @ "k"

    @ppl.gen
    def target():
        k = ppl.flip(0.5) @ "k"
        ppl.normal(0.0, jnp.where(k, jnp.nan, 1.0)) @ "y"

    error = stopped(
        ppl.expectation(lambda p: ppl.elbo(target().condition({"y": 1.0}), coin(p))), jnp.array(0.0)
    )
    assert re.search(
        r"the log density of 'y' \(normal.*\) is not finite \(nan\) at a value that was not drawn", str(error)
    )


@ppl.expectation
def sometimes(mean):
    x = ppl.normal(mean, 1.0) @ "x"
    return -((x - 1.0) ** 2) + ppl.normal(0.0, 1.0).log_density(jnp.log(x + 0.5))


@pytest.mark.parametrize("block_size", [1, 7, None])
def test_skipped_steps_are_counted_and_change_nothing(block_size):
    """The run is that of a loop by hand that leaves out the same steps."""
    result = train(sometimes, jnp.array(0.0), 40, nonfinite="skip", block_size=block_size)
    params, state, skipped = jnp.array(0.0), OPTIMIZER.init(jnp.array(0.0)), 0
    for step in range(40):
        value, slope = sometimes.value_and_grad(jax.random.fold_in(KEY, step), params)
        if not (np.isfinite(value) and np.isfinite(slope)):
            skipped += 1
            continue
        updates, state = OPTIMIZER.update(-slope, state, params)
        params = optax.apply_updates(params, updates)
    assert 0 < skipped < 40
    assert (result.skipped, result.step, result.values.shape) == (skipped, 40, (40,))
    assert np.sum(~np.isfinite(result.values)) == skipped
    np.testing.assert_allclose(result.params, params, rtol=1e-4)


def test_skipping_every_step_is_an_error_and_raising_the_default():
    never = ppl.expectation(lambda p: jnp.log(-1.0 + 0.0 * p) + (ppl.normal(p, 1.0) @ "x"))
    error = stopped(never, jnp.array(0.0), 3, nonfinite="skip")
    assert error.step == 0 and error.params == 0.0
    assert stopped(sometimes, jnp.array(0.0), 40).step < 40
    with pytest.raises(ValueError, match="nonfinite is one of 'raise', 'skip', got 'ignore'"):
        train(sometimes, jnp.array(0.0), nonfinite="ignore")


def test_over_whole_epochs_every_row_counts_the_same_when_the_last_batch_is_partial():
    """Ten rows in batches of four: after two epochs the scaled mean gradient is that of all rows, exactly."""
    data = np.arange(10.0, dtype=np.float32) ** 2

    @ppl.expectation
    def objective(slope, batch):
        return slope * jnp.sum(batch) * (10 / 4)

    # Each value is the scaled sum of its batch: a step size of zero keeps the slope at one.
    result = ppl.fit(
        objective, jnp.array(1.0), optax.sgd(0.0), key=KEY, steps=5, data=data, batch_size=4, progress=False
    )
    assert np.mean(result.values) == pytest.approx(data.sum(), rel=1e-6)
    assert len(set(result.values.tolist())) > 1
