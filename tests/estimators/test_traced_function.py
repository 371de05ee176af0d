"""A function in an estimator: arrays traced, the rest static, and equal where it is equal."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppl.errors import PPLError
from ppl.estimators import Relax
from ppl.estimators.traced_function import TracedFunction


def power(exponent: Any, scale: Any, z: Any) -> Any:
    return scale * z**exponent


CUBE = functools.partial(power, 3, 2.0)
FUNCTIONS = {
    "function": (jnp.tanh, 0),
    "partial": (functools.partial(power, 2, 3.0), 1),  # an integer is static, a float traced
    "partial by name": (functools.partial(lambda z, w: w * z, w=np.ones(())), 1),
    "partial in a partial": (functools.partial(lambda f, w, z: w * f(z), CUBE, 0.5), 2),
    "partial in a dictionary": (functools.partial(lambda d, z: d["f"](z), {"f": CUBE}), 1),
    "Partial": (jax.tree_util.Partial(power, 2, jnp.ones(())), 1),
    "module": (eqx.nn.MLP("scalar", "scalar", 3, 1, activation=jax.nn.tanh, key=jax.random.key(0)), 4),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_are_its_leaves(name: str) -> None:
    function, count = FUNCTIONS[name]
    relax = Relax(function)
    leaves, tree = jax.tree.flatten(relax)
    assert len(leaves) == count
    assert all(jnp.asarray(leaf).dtype == jnp.float32 for leaf in leaves)
    again = jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in leaves])
    np.testing.assert_allclose(again.control(0.7), function(jnp.asarray(0.7)), rtol=1e-6)
    assert hash(tree) == hash(jax.tree.structure(Relax(function))) and tree == jax.tree.structure(
        Relax(function)
    )


def test_other_functions_are_other_structures() -> None:
    structures = [jax.tree.structure(Relax(f)) for f in (jnp.tanh, jnp.sin, functools.partial(power, 2, 1.0))]
    assert len(set(structures)) == 3
    assert jax.tree.structure(Relax(functools.partial(power, 3, 1.0))) != structures[2]


def test_it_is_differentiated_in_its_arrays() -> None:
    slope = jax.grad(lambda function: function(2.0))(TracedFunction(functools.partial(power, 2, 3.0)))
    assert jax.tree.leaves(slope) == [4.0]


def test_it_survives_placeholders() -> None:
    """Interpreters rebuild it from shapes, and from what they know of arrays."""
    _, tree = jax.tree.flatten(Relax(functools.partial(power, 2, 3.0)))
    placeholder = object()
    assert jax.tree.leaves(jax.tree.unflatten(tree, [placeholder])) == [placeholder]


def test_what_is_no_function_and_what_closes_over_a_tracer_is_refused() -> None:
    with pytest.raises(PPLError, match="expected a function"):
        TracedFunction(1.0)

    def program(parameters: Any) -> Any:
        return TracedFunction(lambda z: parameters["w"] * z)(2.0)

    def by_partial(parameters: Any) -> Any:
        return TracedFunction(functools.partial(lambda w, z: parameters["w"] * w * z, 2.0))(2.0)

    def by_name(parameters: Any) -> Any:
        parameters = functools.partial(power, 2, parameters["w"])
        return TracedFunction(lambda z: parameters(z))(2.0)

    def by_function(parameters: Any) -> Any:
        inner = lambda z: parameters["w"] * z
        return TracedFunction(lambda z: inner(z))(2.0)

    for wrong in (program, by_partial, by_name, by_function):
        with pytest.raises(PPLError, match=r"closure over 'parameters'.*functools\.partial"):
            jax.grad(wrong)({"w": 1.0})
    # Concrete arrays are constants.
    weight = jnp.ones(())
    assert TracedFunction(lambda z: weight * z)(2.0) == 2.0
