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
import numpyro.distributions as dist
from jax.nn import log_sigmoid, softplus
from jax.scipy.special import betainc, gammainc, gammaincc, gammaln, log_ndtr, logsumexp

from ppl.distributions import beta_path, gamma_path, von_mises
from ppl.distributions.density import at_least_float32, log_density
from ppl.distributions.growth import growth
from ppl.distributions.implicit_derivative import standardized
from ppl.distributions.registry import inherited

Tails = tuple[Any, Any]


class _Rule(NamedTuple):
    """What is known of the distribution function of a class.

    Attributes:
        standardize: `(distribution, x) -> S`.
        tails: `(distribution, x) -> (log F, log(1 - F))`.
        known: for a class made of others, whether an instance has one.
    """

    standardize: Callable[[Any, Any], Any]
    tails: Callable[[Any, Any], Tails]
    known: Callable[[Any], bool] = lambda distribution: True


_RULES: dict[type, _Rule] = {}


def _rule(classes: Any, *parts: Any) -> None:
    for cls in classes if isinstance(classes, tuple) else (classes,):
        _RULES[cls] = _Rule(*parts)


def has_distribution_function(distribution: Any) -> bool:
    """Whether F, and its derivatives in all float parameters, are known of a univariate distribution.

    Example:
        >>> has_distribution_function(dist.Beta(1.0, 2.0)), has_distribution_function(dist.Poisson(2.0))
        (True, False)
    """
    rule = inherited(_RULES, distribution, "log_prob")
    return rule is not None and distribution.event_shape == () and rule.known(distribution)


def standardize(distribution: Any, value: Any) -> jax.Array:
    """S(value): monotone in the value, of a law that is free of the parameters.

    Raises:
        UnsupportedProgram: a second derivative is taken of one that is known implicitly.
    """
    rule = inherited(_RULES, distribution, "log_prob")
    assert rule is not None, "has_distribution_function() has said that there is one"
    return rule.standardize(at_least_float32(distribution), at_least_float32(jnp.asarray(value)))


def log_tails(distribution: Any, value: Any) -> tuple[jax.Array, jax.Array]:
    """Log F(value) and log(1 - F(value)), differentiable, of the shape of the value and the batch together.

    Example:
        >>> low, high = log_tails(dist.Normal(0.0, 1.0), 10.0)
        >>> float(low.round(1)), float(high.round(1))
        (-0.0, -53.2)
    """
    return _tails(at_least_float32(distribution), at_least_float32(jnp.asarray(value)))


def distribution_function(distribution: Any, value: Any) -> jax.Array:
    """F(value), differentiable in the value and in every float parameter.

    Example:
        >>> import jax
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
    rule = inherited(_RULES, distribution, "log_prob")
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


def _log1mexp(x: Any) -> Any:
    """log(1 - exp(x)) for x <= 0."""
    near = x > -0.7
    return jnp.where(near, jnp.log(-jnp.expm1(jnp.where(near, x, -1.0))), jnp.log1p(-jnp.exp(x)))


# --- location and scale ----------------------------------------------------------------------------


def _location_scale(cls: type, tails: Callable[[Any], Tails]) -> None:
    def standard(distribution: Any, x: Any) -> Any:
        return (x - distribution.loc) / distribution.scale

    _rule(cls, standard, lambda distribution, x: tails(standard(distribution, x)))


def _scale(cls: type, tails: Callable[[Any], Tails]) -> None:
    def standard(distribution: Any, x: Any) -> Any:
        return x / distribution.scale

    _rule(cls, standard, lambda distribution, x: tails(standard(distribution, x)))


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
_location_scale(dist.Gumbel, lambda z: (-jnp.exp(-z), _log1mexp(-jnp.exp(-z))))
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
    return jnp.where(left, below, _log1mexp(above)), jnp.where(left, _log1mexp(below), above)


def _nearer_tail(tails: Callable[[Any, Any], Tails]) -> Callable[[Any, Any], Any]:
    """Log F, or -log(1 - F), whichever is the smaller tail: where both are differentiable."""

    def standard(distribution: Any, x: Any) -> Any:
        low, high = tails(distribution, x)
        return jnp.where(low < high, low, -high)

    return standard


_rule(dist.AsymmetricLaplace, _nearer_tail(_asymmetric_laplace), _asymmetric_laplace)
_rule(
    dist.AsymmetricLaplaceQuantile,
    lambda d, x: standardize(d._ald, x),
    lambda d, x: _asymmetric_laplace(d._ald, x),
)


# --- functions of an exponential or a uniform number -------------------------------------------------


def _exponential(log_survival: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Tails]:
    def tails(distribution: Any, x: Any) -> Tails:
        high = log_survival(distribution, x)
        return _log1mexp(high), high

    return tails


def _weibull(d: Any, x: Any) -> Any:
    return d.concentration * (jnp.log(x) - jnp.log(d.scale))


def _dagum(d: Any, x: Any) -> Any:
    return -d.concentration * softplus(d.sharpness * (jnp.log(d.scale) - jnp.log(x)))


def _kumaraswamy(d: Any, x: Any) -> Any:
    return d.concentration0 * _log1mexp(d.concentration1 * jnp.log(x))


def _power_law(d: Any, x: Any) -> Any:
    log_low, exponent = jnp.log(d.low), 1 + d.alpha
    whole = growth(exponent, jnp.log(d.high) - log_low)
    return growth(exponent, jnp.log(x) - log_low) / whole


def _uniform(d: Any, x: Any) -> Any:
    return (x - d.low) / (d.high - d.low)


def _of_number(standard: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    """A rule whose standardization is F itself."""
    return standard, lambda d, x: (jnp.log(standard(d, x)), jnp.log1p(-standard(d, x)))


_rule(dist.Exponential, lambda d, x: x * d.rate, _exponential(lambda d, x: -x * d.rate))
_rule(dist.Weibull, _weibull, _exponential(lambda d, x: -jnp.exp(_weibull(d, x))))
_rule(
    dist.Gompertz,
    lambda d, x: d.concentration * jnp.expm1(x * d.rate),
    _exponential(lambda d, x: -d.concentration * jnp.expm1(x * d.rate)),
)
_rule(dist.Dagum, _dagum, lambda d, x: (_dagum(d, x), _log1mexp(_dagum(d, x))))
_rule(dist.Kumaraswamy, _kumaraswamy, lambda d, x: (_log1mexp(_kumaraswamy(d, x)), _kumaraswamy(d, x)))
_rule(
    dist.LowerTruncatedPowerLaw,
    lambda d, x: (1 + d.alpha) * (jnp.log(x) - jnp.log(d.low)),
    _exponential(lambda d, x: (1 + d.alpha) * (jnp.log(x) - jnp.log(d.low))),
)
_rule(dist.DoublyTruncatedPowerLaw, *_of_number(_power_law))
_rule(dist.Uniform, *_of_number(_uniform))


# --- implicit ----------------------------------------------------------------------------------------


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


_rule(dist.Gamma, _gamma, _gamma_tails)
_rule(dist.Beta, _beta, _beta_tails)
_rule(dist.StudentT, _student, _student_tails)
_rule(
    dist.VonMises,
    _von_mises,
    lambda d, x: von_mises.log_tails(*_alike(x, d.loc, d.concentration)),
)


# --- made of others ----------------------------------------------------------------------------------


def _of_base(distribution: Any) -> bool:
    return has_distribution_function(distribution.base_dist)


def _inverse(distribution: Any, x: Any) -> Any:
    for transform in reversed(distribution.transforms):
        x = transform.inv(x)
    return x


def _sign(distribution: Any) -> Any:
    """Whether the transforms preserve order, 1, or reverse it, -1."""
    sign: Any = 1
    for transform in distribution.transforms:
        sign = sign * transform.sign
    return sign


def _is_monotone(distribution: Any) -> bool:
    try:
        _sign(distribution)
    except NotImplementedError:  # NumPyro's way to say that it is not known
        return False
    return _of_base(distribution)


def _transformed_tails(distribution: Any, x: Any) -> Tails:
    low, high = log_tails(distribution.base_dist, _inverse(distribution, x))
    rises = jnp.asarray(_sign(distribution)) > 0
    return jnp.where(rises, low, high), jnp.where(rises, high, low)


def _between(distribution: Any) -> tuple[Any, Any]:
    """F of the base at the two ends that a truncated distribution keeps."""
    base = distribution.base_dist
    low, high = getattr(distribution, "low", None), getattr(distribution, "high", None)
    return (
        0.0 if low is None else distribution_function(base, low),
        1.0 if high is None else distribution_function(base, high),
    )


def _truncated(distribution: Any, x: Any) -> Any:
    low, high = _between(distribution)
    return (distribution_function(distribution.base_dist, x) - low) / (high - low)


def _mixed_tails(distribution: Any, x: Any) -> Tails:
    weights = mixing_weights(distribution)
    low, high = log_tails(distribution.component_distribution, x[..., None])
    weights = jnp.broadcast_to(weights, low.shape)
    return logsumexp(low, axis=-1, b=weights), logsumexp(high, axis=-1, b=weights)


def mixing_weights(mixture: Any) -> jax.Array:
    """The probabilities of a mixture's components; they sum to one even if those given do not."""
    probs = at_least_float32(jnp.asarray(mixture.mixing_distribution.probs))
    return probs / jnp.sum(probs, axis=-1, keepdims=True)


_rule(
    dist.ExpandedDistribution,
    lambda d, x: standardize(d.base_dist, x),
    lambda d, x: log_tails(d.base_dist, x),
    _of_base,
)
_rule(
    (dist.TransformedDistribution, dist.LogNormal, dist.InverseGamma),
    lambda d, x: standardize(d.base_dist, _inverse(d, x)),
    _transformed_tails,
    _is_monotone,
)
_rule(
    (
        dist.LeftTruncatedDistribution,
        dist.RightTruncatedDistribution,
        dist.TwoSidedTruncatedDistribution,
        dist.LeftTruncatedGamma,
        dist.RightTruncatedGamma,
        dist.TwoSidedTruncatedGamma,
    ),
    *_of_number(_truncated),
    _of_base,
)
_rule(
    dist.MixtureSameFamily,
    _nearer_tail(_mixed_tails),
    _mixed_tails,
    lambda d: has_distribution_function(d.component_distribution),
)
