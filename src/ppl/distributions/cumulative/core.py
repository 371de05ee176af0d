"""Distribution functions of univariate families, with derivatives in the value and in every parameter.

NumPyro's own lose their digits in the tails, and those of the beta, Student and von Mises families have no
derivative in their parameters. Here a family is a rule of two small functions:

- a *standardization* S(x; theta), monotone in x, whose law is free of theta. A draw that moves with the
  parameters at a fixed value of its distribution function F keeps S, and F is a function of S, so that

      dx = -(dS / dtheta) / (dS / dx) dtheta,      dF(x) = p(x) (dS / dtheta) / (dS / dx) dtheta;

- the *tails* log F and log(1 - F), each accurate where it is small. Only their values: derivatives come from
  S.

Adding a family is one rule.

Reference: Figurnov, Mohamed, Mnih, "Implicit reparameterization gradients", 2018, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.distributions.density import at_least_float32, log_density
from ppl.distributions.registry import inherited

Tails = tuple[Any, Any]


class Rule(NamedTuple):
    """What is known of the distribution function of a class.

    Attributes:
        standardize: `(distribution, x) -> S`.
        tails: `(distribution, x) -> (log F, log(1 - F))`.
        known: for a class made of others, whether an instance has one.
    """

    standardize: Callable[[Any, Any], Any]
    tails: Callable[[Any, Any], Tails]
    known: Callable[[Any], bool] = lambda distribution: True


RULES: dict[type, Rule] = {}


def rule(classes: Any, *parts: Any) -> None:
    """Register the rule of a class, or of several: the parts of a `Rule`."""
    for cls in classes if isinstance(classes, tuple) else (classes,):
        RULES[cls] = Rule(*parts)


def has_distribution_function(distribution: Any) -> bool:
    """Whether F, and its derivatives in all float parameters, are known of a univariate distribution.

    Example:
        >>> import numpyro.distributions as dist
        >>> has_distribution_function(dist.Beta(1.0, 2.0)), has_distribution_function(dist.Poisson(2.0))
        (True, False)
    """
    rule = inherited(RULES, distribution, "log_prob")
    return rule is not None and distribution.event_shape == () and rule.known(distribution)


def standardize(distribution: Any, value: Any) -> jax.Array:
    """S(value): monotone in the value, of a law that is free of the parameters.

    Raises:
        UnsupportedProgram: a second derivative is taken of one that is known implicitly.
    """
    rule = inherited(RULES, distribution, "log_prob")
    assert rule is not None, "has_distribution_function() has said that there is one"
    return rule.standardize(at_least_float32(distribution), at_least_float32(jnp.asarray(value)))


def log_tails(distribution: Any, value: Any) -> tuple[jax.Array, jax.Array]:
    """Log F(value) and log(1 - F(value)), differentiable, of the shape of the value and the batch together.

    Example:
        >>> import numpyro.distributions as dist
        >>> low, high = log_tails(dist.Normal(0.0, 1.0), 10.0)
        >>> float(low.round(1)), float(high.round(1))
        (-0.0, -53.2)
    """
    return _tails(at_least_float32(distribution), at_least_float32(jnp.asarray(value)))


def distribution_function(distribution: Any, value: Any) -> jax.Array:
    """F(value), differentiable in the value and in every float parameter.

    Example:
        >>> import jax
        >>> import numpyro.distributions as dist
        >>> slope = jax.grad(lambda a: distribution_function(dist.Beta(a, 1.0), 0.5))(2.0)  # of 0.5 ** a
        >>> float(slope.round(4))
        -0.1733
    """
    return jnp.exp(log_tails(distribution, value)[0])


@jax.custom_jvp
def quantile(distribution: Any, probability: Any) -> jax.Array:
    """The value at which F is `probability`, differentiable in it and in every float parameter.

    NumPyro says where it is, whether or not JAX can differentiate that.

    Raises:
        UnsupportedProgram: a second derivative is taken of one that is known implicitly.
    """
    return jnp.asarray(distribution.icdf(probability))


@quantile.defjvp
def _(primals: Any, tangents: Any) -> Any:
    distribution, probability = primals
    value = quantile(distribution, probability)  # it moves too, for derivatives of the derivative
    _, moved = jax.jvp(lambda d: standardize(d, value), (distribution,), (tangents[0],))
    slope = jax.jvp(lambda x: standardize(distribution, x), (value,), (jnp.ones_like(value),))[1]
    return value, tangents[1] / jnp.exp(log_density(distribution, value)) - moved / slope


@jax.custom_jvp
def _tails(distribution: Any, value: Any) -> Tails:
    rule = inherited(RULES, distribution, "log_prob")
    assert rule is not None
    return rule.tails(distribution, value)


@_tails.defjvp
def _(primals: Any, tangents: Any) -> Any:
    """D log F = p / F times what S moves by, in units of the value."""
    low, high = _tails(*primals)
    _, moved = jax.jvp(standardize, primals, tangents)
    distribution, value = primals
    slope = jax.jvp(lambda x: standardize(distribution, x), (value,), (jnp.ones_like(value),))[1]
    score = log_density(distribution, value)
    step = moved / slope
    return (low, high), (jnp.exp(score - low) * step, -jnp.exp(score - high) * step)


def log1mexp(x: Any) -> Any:
    """log(1 - exp(x)) for x <= 0."""
    near = x > -0.7
    return jnp.where(near, jnp.log(-jnp.expm1(jnp.where(near, x, -1.0))), jnp.log1p(-jnp.exp(x)))


def of_number(standard: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    """A rule whose standardization is F itself."""
    return standard, lambda d, x: (jnp.log(standard(d, x)), jnp.log1p(-standard(d, x)))


def nearer_tail(tails: Callable[[Any, Any], Tails]) -> Callable[[Any, Any], Any]:
    """Log F, or -log(1 - F), whichever is the smaller tail: where both are differentiable."""

    def standard(distribution: Any, x: Any) -> Any:
        low, high = tails(distribution, x)
        return jnp.where(low < high, low, -high)

    return standard
