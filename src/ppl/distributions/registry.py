"""The table of draws: for each NumPyro class, how an instance is drawn from noise.

A rule is one small function with one line above it:

    @draws(dist.Laplace, reparameterized=True)
    def laplace(distribution, noise, sample_shape): ...

It returns draws of shape `sample_shape + batch_shape + event_shape`. A rule holds for its class and for
the subclasses that inherit the class's `sample`; a subclass that draws in its own way has no rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from ppl.noise import Noise, opaque

Shape = tuple[int, ...]
Draw = Callable[[Any, Noise, Shape], Any]


class Rule(NamedTuple):
    """How the instances of a class are drawn.

    Attributes:
        draw: `(distribution, noise, sample_shape) -> value`.
        reparameterized: whether the derivative of the draw is right in every float parameter; for a
            class built from others, a function of the instance.
    """

    draw: Draw
    reparameterized: bool | Callable[[Any], bool]


_RULES: dict[type, Rule] = {}


def draws(
    *classes: type[Distribution], reparameterized: bool | Callable[[Any], bool]
) -> Callable[[Draw], Draw]:
    """Registers the decorated function as the draw of `classes`."""

    def register(draw: Draw) -> Draw:
        for cls in classes:
            _RULES[cls] = Rule(draw, reparameterized)
        return draw

    return register


def find_rule(distribution: Distribution) -> Rule | None:
    """The rule of the nearest ancestor with one, if the instance is drawn as that ancestor is."""
    return inherited(_RULES, distribution, "sample")


def inherited[Entry](table: dict[type, Entry], distribution: Any, method: str) -> Entry | None:
    """What a table has for the nearest ancestor in it, if the instance has that ancestor's `method`."""
    for cls in type(distribution).__mro__:
        if cls in table:
            same = getattr(type(distribution), method) is getattr(cls, method)
            return table[cls] if same else None
    return None


def draw(distribution: Distribution, noise: Noise, sample_shape: Shape = ()) -> jax.Array:
    """One draw, of shape `sample_shape + batch_shape + event_shape`, all of its randomness from `noise`.

    Where `is_reparameterized(distribution)`, the draw is differentiable in the parameters; elsewhere its
    derivative is zero.

    A family without a rule is drawn by NumPyro's own sampler, with one key for each lane of a `jax.vmap`.

    Raises:
        UnsupportedProgram: a second derivative is taken through an implicitly reparameterised draw.

    Example:
        >>> import jax, numpyro.distributions as dist
        >>> from ppl.noise import Noise
        >>> mean = lambda loc: draw(dist.Normal(loc, 1.0), Noise(jax.random.key(0)))
        >>> float(jax.grad(mean)(0.5))
        1.0
    """
    rule = find_rule(distribution)
    if rule is None:
        return _draw_opaquely(distribution, noise, sample_shape)
    value = rule.draw(distribution, noise, sample_shape)
    return value if is_reparameterized(distribution) else jax.lax.stop_gradient(value)


def is_reparameterized(distribution: Distribution) -> bool:
    """Whether the derivative of `draw` is right in all float parameters, explicitly or implicitly.

    Example:
        >>> import numpyro.distributions as dist
        >>> is_reparameterized(dist.Gamma(2.0)), is_reparameterized(dist.Poisson(2.0))
        (True, False)
    """
    rule = find_rule(distribution)
    if rule is None:
        return False
    known = rule.reparameterized
    return known(distribution) if callable(known) else known


def _draw_opaquely(distribution: Distribution, noise: Noise, sample_shape: Shape) -> jax.Array:
    if sample_shape:
        distribution = distribution.expand((*sample_shape, *distribution.batch_shape))
    leaves, tree = jax.tree.flatten(distribution)
    drawn = jax.eval_shape(lambda key: distribution.sample(key), jax.random.key(0))
    law = opaque(lambda *leaves: jax.tree.unflatten(tree, leaves))
    return noise.draw(law, drawn.shape, drawn.dtype, *leaves)


def float_dtype(*parameters: Any) -> Any:
    """The dtype of a draw from `parameters`: theirs, or the default float if they are integers."""
    return jnp.result_type(*parameters, float)


def working_dtype(dtype: Any) -> Any:
    """The dtype in which noise of `dtype` is drawn and transformed: at least float32.

    A uniform number of bfloat16 has 128 values, and quantiles at them would be a lattice.
    """
    return jnp.promote_types(dtype, jnp.float32)
