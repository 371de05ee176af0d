"""Families that are a function of an exponential or a uniform number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.nn import softplus

from ppl.distributions.cumulative.core import (
    Tails,
    log1mexp,
    of_number,
    rule,
)
from ppl.distributions.growth import growth


def _exponential(log_survival: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Tails]:
    def tails(distribution: Any, x: Any) -> Tails:
        high = log_survival(distribution, x)
        return log1mexp(high), high

    return tails


def _weibull(d: Any, x: Any) -> Any:
    return d.concentration * (jnp.log(x) - jnp.log(d.scale))


def _dagum(d: Any, x: Any) -> Any:
    return -d.concentration * softplus(d.sharpness * (jnp.log(d.scale) - jnp.log(x)))


def _kumaraswamy(d: Any, x: Any) -> Any:
    return d.concentration0 * log1mexp(d.concentration1 * jnp.log(x))


def _power_law(d: Any, x: Any) -> Any:
    log_low, exponent = jnp.log(d.low), 1 + d.alpha
    whole = growth(exponent, jnp.log(d.high) - log_low)
    return growth(exponent, jnp.log(x) - log_low) / whole


def _uniform(d: Any, x: Any) -> Any:
    return (x - d.low) / (d.high - d.low)


rule(dist.Exponential, lambda d, x: x * d.rate, _exponential(lambda d, x: -x * d.rate))
rule(dist.Weibull, _weibull, _exponential(lambda d, x: -jnp.exp(_weibull(d, x))))
rule(
    dist.Gompertz,
    lambda d, x: d.concentration * jnp.expm1(x * d.rate),
    _exponential(lambda d, x: -d.concentration * jnp.expm1(x * d.rate)),
)
rule(dist.Dagum, _dagum, lambda d, x: (_dagum(d, x), log1mexp(_dagum(d, x))))
rule(dist.Kumaraswamy, _kumaraswamy, lambda d, x: (log1mexp(_kumaraswamy(d, x)), _kumaraswamy(d, x)))
rule(
    dist.LowerTruncatedPowerLaw,
    lambda d, x: (1 + d.alpha) * (jnp.log(x) - jnp.log(d.low)),
    _exponential(lambda d, x: (1 + d.alpha) * (jnp.log(x) - jnp.log(d.low))),
)
rule(dist.DoublyTruncatedPowerLaw, *of_number(_power_law))
rule(dist.Uniform, *of_number(_uniform))
