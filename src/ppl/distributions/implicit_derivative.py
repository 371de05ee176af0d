"""Draws whose derivative is known although they come from a rejection sampler.

If `x` has distribution function `F(x; theta)`, moving it so that `F(x; theta)` stays fixed gives

    dx/dtheta = -(dF/dtheta) / p(x; theta),

a derivative with which `E[f(x)]` is differentiated correctly for every continuous `f`. The draw itself
is noise that does not depend on the parameters as far as JAX can see; `attach` adds the derivative.

Reference: Figurnov, Mohamed, Mnih, "Implicit reparameterization gradients", 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from ppl.refusal import undifferentiated

Velocity = Callable[..., tuple[Any, ...]]


def attach(family: str, velocity: Velocity) -> Callable[..., Any]:
    """A function `(sample, *parameters) -> sample` with derivative `velocity(sample, *parameters)`.

    `velocity` returns dx/dtheta for each parameter; all arrays have the shape of the sample, which
    carries no derivative of its own.

    Raises:
        UnsupportedProgram: the derivative of the derivative is asked for.
    """
    once = _differentiated_once(family)

    @jax.custom_jvp
    def attached(sample: Any, *parameters: Any) -> Any:
        return sample

    @attached.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        speeds = velocity(*primals)
        return primals[0], sum(once(speed) * step for speed, step in zip(speeds, tangents[1:], strict=True))

    return attached


def _differentiated_once(family: str) -> Callable[[Any], Any]:
    """The identity, which refuses to be differentiated."""
    why = (
        f"a second derivative was taken through an implicitly reparameterised draw of {family}, for "
        "which only the first is known. Give the choice a score-function estimator, "
        "`.using(ppl.estimators.Reinforce())`, which is right to every order."
    )
    return lambda x: undifferentiated(x, why)
