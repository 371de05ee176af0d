"""Training against closed forms; resuming, failing and refusing."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ppl.errors import NonFiniteObjective, PPLError
from ppl.train import fit


@dataclasses.dataclass(frozen=True)
class Pathwise:
    """What `fit` asks of an expectation, for a function `(key, params, *batch) -> scalar`; by `jax.grad`."""

    function: Callable[..., Any]
    culprit: str | None = None

    def value_and_grad(self, key: jax.Array, params: Any, *batch: Any, num_samples: int = 1) -> Any:
        trained, rest = eqx.partition(params, eqx.is_inexact_array)
        one = jax.value_and_grad(lambda trained, key: self.function(key, eqx.combine(trained, rest), *batch))
        return jax.tree.map(
            lambda draws: draws.mean(0),
            jax.vmap(one, (None, 0))(trained, jax.random.split(key, num_samples)),
        )

    def first_nonfinite(self, key: jax.Array, *args: Any, num_samples: int = 1) -> str | None:
        del key, args, num_samples
        return self.culprit


def squared_error(key: jax.Array, params: Any, batch: Any) -> jax.Array:
    del key
    predicted = batch["x"] @ params["w"] + params["b"]
    return -jnp.mean((batch["y"] - predicted) ** 2)


def noisy_parabola(key: jax.Array, params: Any) -> jax.Array:
    return -jnp.sum((params["loc"] - jnp.array([1.0, -2.0, 3.0]) + jax.random.normal(key, (3,))) ** 2)


def root(key: jax.Array, params: Any, *batch: Any) -> jax.Array:
    """Ascends by one a step, and has no value beyond 3.5."""
    del key, batch
    return params + 0.0 * jnp.sqrt(3.5 - params)


def regression(rows: int = 40) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 3)).astype(np.float32)
    return {"x": x, "y": (x @ np.array([1.0, -1.0, 0.5]) + 2.0 + random.normal(size=rows)).astype(np.float32)}


START = {"w": jnp.zeros(3), "b": jnp.zeros(())}


def same(first: Any, second: Any) -> None:
    """Equality bit for bit, leaf by leaf."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_all_rows_reach_the_least_squares_solution(key):
    data = regression()
    result = fit(
        Pathwise(squared_error), START, optax.sgd(0.2), key=key, steps=500, data=data, progress=False
    )
    design = np.column_stack([data["x"], np.ones(40)])
    solution, *_ = np.linalg.lstsq(design, data["y"])
    np.testing.assert_allclose(np.append(result.params["w"], result.params["b"]), solution, rtol=1e-5)
    residual = data["y"] - design @ solution
    np.testing.assert_allclose(result.values[0], -np.mean(data["y"] ** 2), rtol=1e-6)
    np.testing.assert_allclose(result.values[-1], -np.mean(residual**2), rtol=1e-5)


def test_minimizing_descends(key):
    objective = Pathwise(lambda key, params: (params - 4.0) ** 2)
    result = fit(objective, 0.0, optax.sgd(0.1), key=key, steps=200, maximize=False, progress=False)
    np.testing.assert_allclose(result.params, 4.0, rtol=1e-6)


def test_the_steps_are_those_of_a_loop_written_by_hand(key, x64):
    """With the documented keys, and gradients negated to ascend."""
    objective, optimizer = Pathwise(noisy_parabola), optax.adam(0.1)
    params = {"loc": jnp.zeros(3)}
    result = fit(objective, params, optimizer, key=key, steps=25, num_samples=2, progress=False)
    state, values = optimizer.init(params), []
    for step in range(25):
        value, grads = objective.value_and_grad(jax.random.fold_in(key, step), params, num_samples=2)
        updates, state = optimizer.update(jax.tree.map(jnp.negative, grads), state, params)
        params = optax.apply_updates(params, updates)
        values.append(value)
    np.testing.assert_allclose(result.params["loc"], params["loc"], rtol=1e-10)
    np.testing.assert_allclose(result.values, values, rtol=1e-10)


@pytest.mark.parametrize("block_size", [1, 7, 50, 64])
def test_the_length_of_blocks_changes_no_bit(key, block_size):
    run = lambda **more: fit(
        Pathwise(squared_error), START, optax.adam(0.05), key=key, steps=50, data=regression(), batch_size=7,
        progress=False, **more,
    )  # fmt: skip
    same(run(block_size=block_size), run())


def test_going_on_with_a_run_changes_no_bit(key):
    arguments = dict(key=key, data=regression(), batch_size=7, progress=False)
    objective, optimizer = Pathwise(squared_error), optax.adam(0.05)
    whole = fit(objective, START, optimizer, steps=50, **arguments)
    first = fit(objective, START, optimizer, steps=23, **arguments)
    rest = fit(
        objective, first.params, optimizer, steps=27, start=first.step,
        optimizer_state=first.optimizer_state, **arguments,
    )  # fmt: skip
    same(whole[:2], rest[:2])
    np.testing.assert_array_equal(whole.values, np.concatenate([first.values, rest.values]))
    assert rest.step == 50


def test_blocks_of_every_length_share_one_compilation(key):
    traces = []

    def counting(key, params):
        traces.append(params)
        return noisy_parabola(key, params)

    objective, params, optimizer = Pathwise(counting), {"loc": jnp.zeros(3)}, optax.sgd(0.01)
    for steps in (1, 2):
        fit(objective, params, optimizer, key=key, steps=steps, block_size=100, progress=False)
    before = len(traces)
    result = fit(objective, params, optimizer, key=key, steps=250, block_size=100, progress=False)
    assert (len(traces) - before, result.values.shape) == (0, (250,))


def test_no_steps_give_the_parameters_back(key):
    result = fit(Pathwise(noisy_parabola), {"loc": jnp.ones(3)}, optax.adam(0.1), key=key, steps=0)
    same(result.params, {"loc": jnp.ones(3)})
    assert (result.values.shape, result.values.dtype, result.step) == ((0,), np.float32, 0)


def test_arguments_survive_donation(key):
    params, optimizer = {"loc": jnp.ones(3)}, optax.adam(0.1)
    state = optimizer.init(params)
    fit(Pathwise(noisy_parabola), params, optimizer, key=key, steps=3, optimizer_state=state, progress=False)
    np.testing.assert_array_equal(params["loc"], 1.0)
    np.testing.assert_array_equal(jax.tree.leaves(state)[1], 0.0)


def test_an_optimizer_whose_state_holds_the_parameters_twice(key):
    twice = optax.GradientTransformation(
        lambda params: (params, params), lambda grads, state, params=None: (grads, state)
    )
    result = fit(Pathwise(noisy_parabola), {"loc": jnp.ones(3)}, twice, key=key, steps=2, progress=False)
    same(result.optimizer_state, ({"loc": jnp.ones(3)},) * 2)


def test_frozen_parameters_stay_as_they_are_to_the_bit(key):
    params = {"loc": jnp.zeros(3), "unused": jnp.array([0.1, 7.3])}

    def objective(key, params):
        return noisy_parabola(key, params) + jnp.sum(params["unused"] ** 2)

    frozen = optax.chain(optax.adam(0.1), optax.transforms.freeze({"loc": False, "unused": True}))
    found = fit(Pathwise(objective), params, frozen, key=key, steps=100, progress=False).params
    np.testing.assert_array_equal(found["unused"], params["unused"])
    assert (jnp.abs(found["loc"]) > 0.5).all()


def test_double_precision(key, x64):
    objective = Pathwise(lambda key, params: -((params - 1.0 / 3.0) ** 2))
    result = fit(objective, 0.0, optax.sgd(0.25), key=key, steps=60, progress=False)
    assert (result.params.dtype, result.values.dtype) == (np.float64, np.float64)
    np.testing.assert_allclose(result.params, 1.0 / 3.0, rtol=1e-12)


# Parameters that are modules.


def test_an_equinox_module_keeps_its_functions_and_its_dropout_rate(key):
    class Model(eqx.Module):
        linear: eqx.nn.Linear
        dropout: eqx.nn.Dropout
        activation: Callable[..., Any]
        label: str
        counts: jax.Array

        def __call__(self, x):
            return self.activation(self.linear(self.dropout(x, inference=True))[0])

    model = Model(eqx.nn.Linear(3, 1, key=key), eqx.nn.Dropout(0.25), lambda x: x, "name", jnp.arange(2))
    data = regression()
    objective = Pathwise(lambda key, m, batch: -jnp.mean((jax.vmap(m)(batch["x"]) - batch["y"]) ** 2))
    result = fit(objective, model, optax.sgd(0.2), key=key, steps=500, data=data, progress=False)
    solution, *_ = np.linalg.lstsq(np.column_stack([data["x"], np.ones(40)]), data["y"])
    fitted = np.append(result.params.linear.weight, result.params.linear.bias)
    np.testing.assert_allclose(fitted, solution, rtol=1e-4)
    assert (result.params.dropout.p, result.params.label) == (0.25, "name")
    assert result.params.activation is model.activation
    np.testing.assert_array_equal(result.params.counts, [0, 1])


def test_a_flax_module(key):
    data = regression()
    objective = Pathwise(lambda key, m, batch: -jnp.mean((m(batch["x"])[:, 0] - batch["y"]) ** 2))
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    result = fit(objective, model, optax.sgd(0.2), key=key, steps=500, data=data, progress=False)
    solution, *_ = np.linalg.lstsq(np.column_stack([data["x"], np.ones(40)]), data["y"])
    fitted = np.append(result.params.kernel[...], result.params.bias[...])
    np.testing.assert_allclose(fitted, solution, rtol=1e-4)


# Failure.


@pytest.mark.parametrize("block_size", [1, 2, 100])
def test_a_step_that_is_not_finite_stops_the_run_before_it(key, block_size):
    objective = Pathwise(root, culprit="'x' at model.py:7")
    optimizer = optax.trace(0.0)
    ascent = optax.chain(optimizer, optax.scale(-1.0))
    with pytest.raises(NonFiniteObjective) as caught:
        fit(objective, 0.0, ascent, key=key, steps=100, block_size=block_size, progress=False)
    error: Any = caught.value
    message = str(error)
    assert "stopped at step 4: the objective is nan" in message
    assert "'x' at model.py:7" in message
    assert "objective.value_and_grad(error.key, error.params)" in message
    # The bad step is the fifth: its parameters are 4, reached by four good steps.
    assert (error.step, float(error.params), error.batch) == (4, 4.0, None)
    np.testing.assert_array_equal(error.result.values, [0.0, 1.0, 2.0, 3.0])
    same(error.result[:2], fit(objective, 0.0, ascent, key=key, steps=4, progress=False)[:2])
    value, _ = objective.value_and_grad(error.key, error.params)
    assert np.isnan(value)


def test_the_batch_and_the_key_of_the_bad_step_are_kept(key):
    data = np.arange(20.0, dtype=np.float32)

    def objective(key, params, batch):
        return params * 0.0 + jax.random.normal(key) + jnp.where(jnp.any(batch == 13.0), jnp.inf, 0.0)

    expectation = Pathwise(objective)
    with pytest.raises(NonFiniteObjective) as caught:
        fit(expectation, 0.0, optax.sgd(0.1), key=key, steps=20, data=data, batch_size=3, progress=False)
    error: Any = caught.value
    assert error.batch.shape == (3,) and 13.0 in error.batch
    assert np.isposinf(expectation.value_and_grad(error.key, error.params, error.batch)[0])
    same(jax.random.key_data(error.key), jax.random.key_data(jax.random.fold_in(key, error.step)))
    assert "the objective is inf" in str(error)


def test_a_gradient_that_is_not_finite_names_its_leaf(key):
    objective = Pathwise(lambda key, params: -jnp.sqrt(jnp.sum(params["scale"] ** 2)) + params["loc"])
    params = {"loc": 0.0, "scale": jnp.zeros(2)}
    with pytest.raises(
        NonFiniteObjective, match=r"gradient is not finite with respect to params\['scale'\] \[2\]"
    ):
        fit(objective, params, optax.sgd(0.1), key=key, steps=3, progress=False)


def test_an_update_that_is_not_finite_is_told_apart(key):
    overflowing = optax.stateless(lambda updates, params: jax.tree.map(lambda u: u / 0.0, updates))
    params = {"loc": jnp.full(3, 0.5)}
    for steps in (1, 3):  # found at the end of a block, and by the step that follows
        with pytest.raises(NonFiniteObjective, match=r"params\['loc'\] \[3\] became not finite in an update"):
            fit(Pathwise(noisy_parabola), params, overflowing, key=key, steps=steps, progress=False)


# Refusals.

PARABOLA = Pathwise(noisy_parabola)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (dict(objective=noisy_parabola), TypeError, "decorate the objective with @ppl.expectation"),
        (dict(optimizer=0.1), TypeError, r"optax\.adam"),
        (dict(params={"n": jnp.arange(3), "f": jnp.tanh}), TypeError, r"nothing to train.*params\['f'\]"),
        (dict(params={}), TypeError, "no leaf at all"),
        (dict(steps=-1), ValueError, "steps is at least 0, got -1"),
        (dict(steps=1.5), TypeError, "steps is a whole number"),
        (dict(steps=2**32), ValueError, "at most 4294967295"),
        (dict(num_samples=0), ValueError, "num_samples is at least 1"),
        (dict(block_size=0), ValueError, "block_size is at least 1"),
        (dict(batch_size=3), ValueError, "no data was given"),
        (dict(key=jax.random.PRNGKey(0)), PPLError, r"jax\.random\.key"),
        (dict(data=np.zeros((4, 2)), batch_size=5), ValueError, "batch_size is 5, but data has 4 rows"),
        (dict(data=np.zeros((0, 2))), ValueError, "no rows"),
        (dict(data={}), ValueError, "holds no array"),
        (dict(data={"x": np.zeros((4, 2)), "n": 3}), ValueError, "leading axis"),
        (
            dict(data={"x": np.zeros((4, 2)), "y": np.zeros(5)}),
            ValueError,
            r"data\['x'\] \[4, 2\], data\['y'\] \[5\]",
        ),
    ],
)
def test_refusals(key, change, kind, message):
    arguments: dict[str, Any] = dict(
        objective=PARABOLA,
        params={"loc": jnp.zeros(3)},
        optimizer=optax.sgd(0.1),
        key=key,
        steps=2,
        progress=False,
    )
    arguments |= change
    with pytest.raises(kind, match=message):
        fit(arguments.pop("objective"), arguments.pop("params"), arguments.pop("optimizer"), **arguments)


def test_a_value_that_is_not_a_scalar_is_refused(key):
    class PerDatum(Pathwise):
        def value_and_grad(self, key, params, *batch, num_samples=1):
            return params["loc"], params

    with pytest.raises(TypeError, match=r"real scalar, got float32\[3\]"):
        fit(PerDatum(noisy_parabola), {"loc": jnp.zeros(3)}, optax.sgd(0.1), key=key, steps=2, progress=False)


def test_a_plan_that_cannot_be_hashed_still_runs(key):
    class Unhashable(Pathwise):
        __hash__ = None

    result = fit(
        Unhashable(noisy_parabola), {"loc": jnp.zeros(3)}, optax.sgd(0.0), key=key, steps=2, progress=False
    )
    assert result.values.shape == (2,)


class FloatPair(NamedTuple):
    first: Any
    rest: Any


def test_python_floats_are_trained_in_containers(key):
    """In dictionaries, lists and named tuples alike."""
    pair = FloatPair(0.0, [0.0, {"a": 0.0}])
    objective = Pathwise(lambda key, p: -sum((x - 1.0) ** 2 for x in jax.tree.leaves(p)))
    result = fit(objective, pair, optax.sgd(0.5), key=key, steps=1, progress=False)
    assert [float(x) for x in jax.tree.leaves(result.params)] == [1.0, 1.0, 1.0]
