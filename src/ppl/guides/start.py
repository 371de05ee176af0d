"""Where to begin: parameters of a guide at which the target's log density is finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ppl.choices import Choices
from ppl.errors import NonFiniteObjective, UnsupportedProgram
from ppl.measure import Measure
from ppl.noise import check_key
from ppl.source import user_line

_ATTEMPTS = 20


def finite_start(
    target: Measure, make: Callable[[jax.Array, jax.Array], Any], guide: Callable[[Any], Measure],
    key: jax.Array,
) -> Any:  # fmt: skip
    """Parameters at which the target's log density and its derivative are finite at a draw of the guide.

    Args:
        target: what the guide is of.
        make: `(key, radius) -> params`, with locations at most `radius` from zero: 2, and nearer to zero with
            every attempt that fails.
        guide: the guide of parameters.
        key: of the locations.

    Raises:
        NonFiniteObjective: 20 attempts have failed.
        UnsupportedProgram: inside a transformation of JAX.
    """
    check_key(key)

    @jax.jit
    def attempt(number: Any) -> tuple[Any, Any]:
        here = jax.random.fold_in(key, number)
        params = make(here, 2.0 * (1 - number / _ATTEMPTS))
        choices = dict(guide(params).simulate(here).choices.leaves())
        floats = {a: x for a, x in choices.items() if jnp.issubdtype(x.dtype, jnp.inexact)}
        score, slope = jax.value_and_grad(
            lambda floats: target.log_density(Choices({**choices, **floats}), key=here)
        )(floats)
        finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((score, slope))]
        return params, jnp.all(jnp.stack(finite))

    for number in range(_ATTEMPTS):
        params, finite = attempt(number)
        if isinstance(finite, Tracer):
            raise UnsupportedProgram(
                "`initial` looks whether a density is finite, which inside a transformation such as jax.jit "
                f"it cannot ({user_line()}). Call it outside, and pass the parameters in."
            )
        if finite:
            return params
    raise NonFiniteObjective(
        f"the log density of {target!r}, or its derivative, is not finite at {_ATTEMPTS} draws of a guide "
        "whose locations are between -2 and 2 in unconstrained space. Give parameters of your own, and see "
        "where it is not by the error of a first step of `ppl.fit`."
    )


def uniform_like(key: jax.Array, tree: Any, radius: jax.Array) -> Any:
    """Arrays like those of a tree, uniform between minus the radius and the radius."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, max(len(leaves), 1))
    drawn = [
        jax.random.uniform(k, x.shape, x.dtype, -radius, radius) for k, x in zip(keys, leaves, strict=False)
    ]
    return jax.tree.unflatten(structure, drawn)
