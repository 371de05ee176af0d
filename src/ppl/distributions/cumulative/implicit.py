"""Families whose standardization is known by its derivatives alone."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import betainc, gammainc, gammaincc, gammaln

from ppl.distributions import beta_path, gamma_path, von_mises
from ppl.distributions.cumulative.core import (
    Tails,
    rule,
)
from ppl.distributions.implicit_derivative import standardized


def _gamma(d: Any, x: Any) -> Any:
    log_x = jnp.log(x) + jnp.log(d.rate)
    return standardized("gamma", gamma_path.velocity)(*_alike(log_x, d.concentration))


def _alike(*arrays: Any) -> list[Any]:
    shape, dtype = jnp.broadcast_shapes(*map(jnp.shape, arrays)), jnp.result_type(*arrays)
    return [jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in arrays]


def _gamma_tails(d: Any, x: Any) -> Tails:
    z, a = _alike(x * d.rate, d.concentration)
    low, high = _logarithms(gammainc(a, z), gammaincc(a, z))
    power = a * (jnp.log(x) + jnp.log(d.rate)) - gammaln(a + 1)  # where F itself underflows
    return jnp.where(jnp.isneginf(low), power, low), high


def _logarithms(low: Any, high: Any) -> Tails:
    """Of two probabilities that sum to one, from the smaller."""
    left = low < high
    low, high = (
        jnp.where(left, jnp.log(low), jnp.log1p(-high)),
        jnp.where(left, jnp.log1p(-low), jnp.log(high)),
    )
    return low, high


def _beta(d: Any, x: Any) -> Any:
    s = jnp.log(x) - jnp.log1p(-x)
    return standardized("beta", beta_path.velocity)(*_alike(s, d.concentration1, d.concentration0))


def _beta_tails(d: Any, x: Any) -> Tails:
    a, b, x = _alike(d.concentration1, d.concentration0, x)
    return _logarithms(betainc(a, b, x), betainc(b, a, 1 - x))


def _student_velocity(z: Any, df: Any) -> tuple[Any]:
    """From y = z^2 / (df + z^2), a beta draw with concentrations 1/2 and df/2, by z^2 = df y / (1 - y)."""
    s = 2 * jnp.log(jnp.maximum(jnp.abs(z), jnp.finfo(z.dtype).tiny)) - jnp.log(df)  # logit(y)
    _, speed = beta_path.velocity(s, jnp.full_like(s, 0.5), 0.5 * df)
    return (0.5 * z * (1 / df + 0.5 * speed),)


def _student(d: Any, x: Any) -> Any:
    return standardized("student_t", _student_velocity)(*_alike((x - d.loc) / d.scale, d.df))


def _student_tails(d: Any, x: Any) -> Tails:
    z, df = _alike((x - d.loc) / d.scale, d.df)
    half = 0.5 * df
    near = jnp.log(0.5) + jnp.log(betainc(half, jnp.full_like(half, 0.5), df / (df + z * z)))
    far = jnp.log1p(-jnp.exp(near))
    return jnp.where(z < 0, near, far), jnp.where(z < 0, far, near)


def _von_mises(d: Any, x: Any) -> Any:
    return standardized("von_mises", von_mises.velocity)(*_alike(x, d.loc, d.concentration))


rule(dist.Gamma, _gamma, _gamma_tails)
rule(dist.Beta, _beta, _beta_tails)
rule(dist.StudentT, _student, _student_tails)
rule(
    dist.VonMises,
    _von_mises,
    lambda d, x: von_mises.log_tails(*_alike(x, d.loc, d.concentration)),
)
