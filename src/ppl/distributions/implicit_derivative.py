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


def standardized(family: str, velocity: Velocity) -> Callable[..., Any]:
    """The opposite of `attach`: a function `(value, *parameters) -> value` that stands still along a path.

    Its derivative is `dvalue - velocity(value, *parameters) dparameters`, which is zero where the value moves
    with the parameters at a fixed value of the distribution function. So it takes the place of a
    standardization of the draw (the function S of Figurnov, Mohamed, Mnih, equation 4) where none is
    elementary.

    Raises:
        UnsupportedProgram: the derivative of the derivative is asked for.
    """
    once = _differentiated_once(family)

    @jax.custom_jvp
    def standard(value: Any, *parameters: Any) -> Any:
        return value

    @standard.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        speeds = velocity(*primals)
        moved = sum(once(speed) * step for speed, step in zip(speeds, tangents[1:], strict=True))
        return primals[0], tangents[0] - moved

    return standard


def _differentiated_once(family: str) -> Callable[[Any], Any]:
    """The identity, which refuses to be differentiated."""
    why = (
        f"a second derivative was taken through an implicitly reparameterised draw of {family}, for "
        "which only the first is known. Give the choice an estimator that is right to every order: "
        "`.using(ppl.estimators.Reinforce())`, or, for a single gamma, beta, Dirichlet or the like, "
        "`GeneralizedReparam()` or `RejectionReparam()`."
    )
    return lambda x: undifferentiated(x, why)
