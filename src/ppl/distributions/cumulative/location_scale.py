"""Families that are moved and stretched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.nn import log_sigmoid
from jax.scipy.special import log_ndtr

from ppl.distributions.cumulative.core import (
    Tails,
    log1mexp,
    nearer_tail,
    rule,
    standardize,
)


def _location_scale(cls: type, tails: Callable[[Any], Tails]) -> None:
    def standard(distribution: Any, x: Any) -> Any:
        return (x - distribution.loc) / distribution.scale

    rule(cls, standard, lambda distribution, x: tails(standard(distribution, x)))


def _scale(cls: type, tails: Callable[[Any], Tails]) -> None:
    def standard(distribution: Any, x: Any) -> Any:
        return x / distribution.scale

    rule(cls, standard, lambda distribution, x: tails(standard(distribution, x)))


def _laplace(z: Any) -> Tails:
    near = jnp.log(0.5) - jnp.abs(z)
    far = jnp.log1p(-jnp.exp(near))
    return jnp.where(z < 0, near, far), jnp.where(z < 0, far, near)


def _secant(z: Any) -> Tails:
    def below(z: Any) -> Any:  # log(2 / pi arctan(exp(z)))
        return jnp.log(2 / jnp.pi) + jnp.where(z < -15, z, jnp.log(jnp.arctan(jnp.exp(jnp.maximum(z, -15)))))

    return below(z), below(-z)


_location_scale(dist.Normal, lambda z: (log_ndtr(z), log_ndtr(-z)))
_location_scale(dist.Laplace, _laplace)
_location_scale(
    dist.Cauchy,
    lambda z: (jnp.log(jnp.arctan2(1.0, -z) / jnp.pi), jnp.log(jnp.arctan2(1.0, z) / jnp.pi)),
)
_location_scale(dist.Gumbel, lambda z: (-jnp.exp(-z), log1mexp(-jnp.exp(-z))))
_location_scale(dist.Logistic, lambda z: (log_sigmoid(z), log_sigmoid(-z)))
_location_scale(dist.SoftLaplace, _secant)
_location_scale(dist.Levy, lambda z: (_log_twice_ndtr(-1 / jnp.sqrt(z)), _log_erf(1 / jnp.sqrt(2 * z))))
_scale(dist.HalfNormal, lambda z: (_log_erf(z / jnp.sqrt(2.0)), _log_twice_ndtr(-z)))
_scale(
    dist.HalfCauchy,
    lambda z: (jnp.log(2 / jnp.pi * jnp.arctan2(z, 1.0)), jnp.log(2 / jnp.pi * jnp.arctan2(1.0, z))),
)


def _log_twice_ndtr(z: Any) -> Any:
    return jnp.log(2.0) + jnp.asarray(log_ndtr(z))


def _log_erf(x: Any) -> Any:
    return jnp.log(jax.lax.erf(x))


def _asymmetric_laplace(distribution: Any, x: Any) -> Tails:
    z, k = x - distribution.loc, distribution.asymmetry
    below = jnp.log(k**2 / (1 + k**2)) + jnp.minimum(z, 0) / distribution.left_scale
    above = -jnp.log1p(k**2) - jnp.maximum(z, 0) / distribution.right_scale
    left = z < 0
    return jnp.where(left, below, log1mexp(above)), jnp.where(left, log1mexp(below), above)


rule(dist.AsymmetricLaplace, nearer_tail(_asymmetric_laplace), _asymmetric_laplace)
rule(
    dist.AsymmetricLaplaceQuantile,
    lambda d, x: standardize(d._ald, x),
    lambda d, x: _asymmetric_laplace(d._ald, x),
)
