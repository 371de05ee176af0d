"""Measure-valued derivatives: the derivative of a distribution as a difference of distributions.

For a family with `d p / d theta = c (p_plus - p_minus)`, the derivative of `E[f(x)]` is
`c (E_plus[f] - E_minus[f])`. Everything here is in *contrast form*,

    d E[f(x)] = E[ sum_j dw_j (f(x_j) - f(x)) ],

in which `f` is compared with its value at the draw `x` itself, each phantom `x_j` is coupled with `x`,
and `w_j` is a weight that is zero in value and moves with the parameters. A rule is one small function:
adding a family adds nothing else.

References:
    Pflug, "Sampling derivatives of probabilities", 1989.
    Heidergott, Vázquez-Abad, "Measure-valued differentiation for stochastic processes", 2000.
    Mohamed, Rosca, Figurnov, Mnih, "Monte Carlo gradient estimation in machine learning", 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.lax import stop_gradient
from jax.scipy.special import gammaln
from numpyro.distributions import discrete

from ppl.distributions.flip import Flip
from ppl.distributions.one_hot import OneHotCategorical
from ppl.distributions.registry import inherited
from ppl.noise import CATEGORICAL, GEOMETRIC, LOG_GAMMA, Noise


class WeakDerivative(NamedTuple):
    """What a measure-valued derivative makes of a draw.

    Attributes:
        phantoms: other values, coupled with the draw; shape `(J, *value.shape)`. Each entry along the
            batch replaces one instance of the choice.
        weights: zero in value, not in derivative; shape `(J, *batch_shape)`.
        exact: whether the weights are right to every order; otherwise the first derivative is.
    """

    phantoms: jax.Array
    weights: jax.Array
    exact: bool = False


Rule = Callable[[Any, Any, Noise], WeakDerivative]
_RULES: dict[type, Rule] = {}


def _decomposes(*classes: type) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


def _find(distribution: Any) -> Rule | None:
    """The rule of the nearest ancestor with one, if the instance has that ancestor's density."""
    return inherited(_RULES, distribution, "log_prob")


def has_weak_derivative(distribution: Any) -> bool:
    """Whether a decomposition of the distribution's derivative is known.

    Example:
        >>> import numpyro.distributions as dist
        >>> has_weak_derivative(dist.Normal(0.0, 1.0)), has_weak_derivative(dist.Cauchy(0.0, 1.0))
        (True, False)
    """
    return _find(distribution) is not None


def weak_derivative(distribution: Any, value: Any, noise: Noise) -> WeakDerivative | None:
    """The phantoms and weights of the draw `value`, or `None` if no decomposition is known.

    Example:
        >>> import jax, numpyro.distributions as dist
        >>> from ppl.noise import Noise
        >>> weak = weak_derivative(dist.Poisson(2.0), jax.numpy.array(3), Noise(jax.random.key(0)))
        >>> weak.phantoms.tolist(), weak.weights.tolist()
        ([4], [0.0])
    """
    rule = _find(distribution)
    return None if rule is None else rule(distribution, stop_gradient(value), noise)


def _step(parameter: Any) -> Any:
    """`theta - stop_gradient(theta)`, at least in float32."""
    parameter = jnp.asarray(parameter)
    parameter = parameter.astype(jnp.promote_types(jnp.result_type(parameter, float), jnp.float32))
    return parameter - stop_gradient(parameter)


def _collect(value: Any, pairs: list[tuple[Any, Any]], exact: bool = False) -> WeakDerivative:
    phantoms = [jnp.broadcast_to(phantom, value.shape).astype(value.dtype) for phantom, _ in pairs]
    weights = [jnp.broadcast_to(weight, value.shape) for _, weight in pairs]
    return WeakDerivative(stop_gradient(jnp.stack(phantoms)), jnp.stack(weights), exact)


def _exponential(noise: Noise, value: Any) -> Any:
    return -jnp.log(noise.uniform(value.shape, _wide(value)))


def _wide(value: Any) -> Any:
    return jnp.promote_types(jnp.result_type(value, float), jnp.float32)


@_decomposes(dist.BernoulliProbs, dist.BernoulliLogits, Flip)
def _bernoulli(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """The other value, weighted by the change of its probability."""
    change = _step(distribution.probs)
    one = value.astype(bool)
    return _collect(value, [(~one, jnp.where(one, -change, change))], exact=True)


@_decomposes(dist.CategoricalProbs, dist.CategoricalLogits)
def _categorical(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """One of the K - 1 other values, uniformly, weighted by K - 1 times the change of its probability."""
    change = _step(distribution.probs)
    others = change.shape[-1] - 1
    if others == 0:
        return _collect(value, [(value, jnp.zeros_like(change[..., 0]))], exact=True)
    offset = 1 + noise.draw(CATEGORICAL, value.shape, value.dtype, jnp.zeros(others))
    other = (value + offset) % (others + 1)
    change = jnp.broadcast_to(change, (*value.shape, others + 1))
    weight = others * jnp.take_along_axis(change, other[..., None], axis=-1)[..., 0]
    return _collect(value, [(other, weight)], exact=True)


@_decomposes(OneHotCategorical)
def _one_hot_categorical(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """As a categorical index."""
    weak = _categorical(distribution, jnp.argmax(value, axis=-1), noise)
    phantoms = jax.nn.one_hot(weak.phantoms, value.shape[-1], dtype=value.dtype)
    return weak._replace(phantoms=phantoms)


@_decomposes(dist.Normal)
def _normal(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """In the location, Rayleigh steps to both sides; in the scale, a double-sided Maxwell variable.

    With w Rayleigh, d/dloc = (E f(loc + scale w) - E f(loc - scale w)) / (scale sqrt(2 pi)). With m
    double-sided Maxwell, d/dscale = (E f(loc + scale m) - E f(x)) / scale. If m is Maxwell and u
    uniform, m u is normal; hence m given n has m^2 = n^2 + 2 e and the sign of n.
    """
    loc, scale = distribution.loc, distribution.scale
    rayleigh = jnp.sqrt(2 * _exponential(noise, value))
    n = (value - loc) / scale
    maxwell = jnp.where(n < 0, -1, 1) * jnp.sqrt(n**2 + 2 * _exponential(noise, value))
    turn = _step(loc) / stop_gradient(scale * jnp.sqrt(2 * jnp.pi))
    pairs = [
        (loc + scale * rayleigh, turn),
        (loc - scale * rayleigh, -turn),
        (loc + scale * maxwell, _step(scale) / stop_gradient(scale)),
    ]
    return _collect(value, pairs)


@_decomposes(dist.Exponential)
def _exponential_rate(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """d/drate = (E f(x) - E f(x + x')) / rate, with x' independent and of the same law."""
    rate = distribution.rate
    longer = value + _exponential(noise, value) / rate
    return _collect(value, [(longer, -_step(rate) / stop_gradient(rate))])


@_decomposes(dist.Gamma)
def _gamma(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """In the rate, Gamma(a + 1, b); in the concentration, the draw shortened by a beta variable.

    d/drate = (a / b) (E f(x) - E f(x + e / b)), since a gamma and an exponential draw add up to a gamma
    draw of concentration a + 1.

    For the concentration: if y ~ Gamma(a + h) and s ~ Beta(a, h) are independent, y s ~ Gamma(a) (Lukacs,
    "A characterization of the gamma distribution", 1955). As h falls to zero the law of s puts mass
    h s^(a-1) / (1 - s) ds away from one, so that

        d/da E f(y) = E int_0^1 (f(y) - f(y s)) s^(a-1) / (1 - s) ds.

    The integral is estimated with s ~ Beta(a, 1/2), at weight B(a, 1/2) / sqrt(1 - s). The variance is
    finite for a discontinuous f too: y and y s lie on different sides of a jump with a probability
    proportional to 1 - s.
    """
    a, b = (jnp.asarray(p, _wide(value)) for p in (distribution.concentration, distribution.rate))
    longer = value + _exponential(noise, value) / b
    log_kept, _, weight = _shortened(noise, a, value.shape)
    shorter = value * jnp.exp(log_kept)
    return _collect(value, [(longer, -_step(b) * stop_gradient(a / b)), (shorter, weight)])


def _shortened(noise: Noise, concentration: Any, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Log s and log(1 - s) of s ~ Beta(a, 1/2), and the weight of a gamma draw of concentration a times s."""
    a = stop_gradient(jnp.broadcast_to(concentration, shape))
    log_kept = noise.draw(LOG_GAMMA, shape, a.dtype, a)
    half = 0.5 * noise.normal(shape, a.dtype) ** 2  # Gamma(1/2)
    log_lost = jnp.log(jnp.maximum(half, jnp.finfo(half.dtype).tiny))
    log_total = jnp.logaddexp(log_kept, log_lost)
    log_beta = gammaln(a) + gammaln(0.5) - gammaln(a + 0.5)
    weight = jnp.exp(log_beta - 0.5 * (log_lost - log_total))
    return log_kept - log_total, log_lost - log_total, -_step(concentration) * stop_gradient(weight)


@_decomposes(dist.Beta)
def _beta(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """In either concentration, the draw with its odds times, or over, a beta variable.

    The odds of a beta draw are the ratio of two gamma draws, and the derivative in the concentration of a
    gamma draw shortens it: in that of the first, x / (1 - x) becomes s x / (1 - x), whatever the two draws
    were.
    """
    parts = (distribution.concentration1, distribution.concentration0)
    a, b = (jnp.asarray(p, _wide(value)) for p in parts)
    x = value.astype(a.dtype)
    odds = jnp.log(x) - jnp.log1p(-x)
    limits, pairs = jnp.finfo(value.dtype), []
    for sign, concentration in ((1, a), (-1, b)):
        log_kept, _, weight = _shortened(noise, concentration, value.shape)
        phantom = jax.nn.sigmoid(odds + sign * log_kept)
        pairs.append((jnp.clip(phantom, limits.tiny, 1 - limits.eps), weight))
    return _collect(value, pairs)


@_decomposes(dist.Dirichlet)
def _dirichlet(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """In each concentration, the draw with that entry shortened as a gamma draw is, scaled to sum to one."""
    concentration = jnp.asarray(distribution.concentration, _wide(value))
    x, limits = value.astype(concentration.dtype), jnp.finfo(value.dtype)
    log_kept, log_lost, weights = _shortened(noise, concentration, value.shape)
    total = 1 - x * jnp.exp(log_lost)
    kept = jnp.where(jnp.eye(x.shape[-1], dtype=bool), jnp.exp(log_kept)[..., None], 1)
    phantoms = jnp.clip(x[..., None, :] * kept / total[..., None], limits.tiny, 1 - limits.eps)
    phantoms = jnp.moveaxis(phantoms.astype(value.dtype), -2, 0)
    return WeakDerivative(stop_gradient(phantoms), jnp.moveaxis(weights, -1, 0))


@_decomposes(dist.Weibull)
def _weibull(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """In the scale, as the exponential e = (x / scale)^c; in the concentration, by a wider law of e.

    With w = log e, of density h(w) = exp(w - exp(w)), x = scale exp(w / c), and

        d/dc E f(x) = -1/c int (d/dw f) w h(w) dw = 1/c int f (w h)' dw.

    As a density of e, (w h)' is exp(-e) - q(e), where q(e) = (e - 1) log(e) exp(-e) is not negative and
    integrates to one. So d/dc E f(x) = (E f(x) - E f(x')) / c with x' made of e' ~ q. The distribution
    function of q is 1 - exp(-e) (1 + e log e), and e' is taken at the quantile of e.
    """
    scale, c = (jnp.asarray(p, _wide(value)) for p in (distribution.scale, distribution.concentration))
    e = (value / stop_gradient(scale)) ** stop_gradient(c)
    longer = scale * (e + _exponential(noise, value)) ** (1 / c)
    spread = scale * jnp.exp(_log_spread(e) / c)
    pairs = [(longer, _step(scale) * stop_gradient(c / scale)), (spread, -_step(c) / stop_gradient(c))]
    return _collect(value, pairs)


def _log_spread(e: Any) -> Any:
    """Log e' with exp(-e') (1 + e' log e') = exp(-e), by bisection of e' - log(1 + e' log e') = e."""
    log_e = jnp.log(e)
    ends = log_e - jnp.log(2 + jnp.abs(log_e)) - 1, jnp.log(2 * e + 3)

    def halve(_: Any, ends: Any) -> Any:
        low, high = ends
        middle = 0.5 * (low + high)
        beyond = jnp.exp(middle) - jnp.log1p(jnp.exp(middle) * middle) > e
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = jax.lax.fori_loop(0, 30 if e.dtype == jnp.float32 else 55, halve, ends)
    return 0.5 * (low + high)


@_decomposes(dist.Poisson)
def _poisson(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """d/drate = E f(x + 1) - E f(x)."""
    return _collect(value, [(value + 1, _step(distribution.rate))])


@_decomposes(discrete.GeometricProbs, discrete.GeometricLogits)
def _geometric(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """d/dp = (E f(x) - E f(x + x' + 1)) / p, with x' independent and of the same law."""
    p = jnp.asarray(distribution.probs)
    other = noise.draw(GEOMETRIC, value.shape, value.dtype, p)
    return _collect(value, [(value + other + 1, -_step(p) / stop_gradient(p))])


@_decomposes(dist.BinomialProbs, dist.BinomialLogits)
def _binomial(distribution: Any, value: Any, noise: Noise) -> WeakDerivative:
    """d/dp = n (E f(y + 1) - E f(y)), with y the successes in all trials but one, picked at random."""
    n = distribution.total_count
    succeeded = noise.uniform(value.shape, _wide(value)) * n < value
    rest = value - succeeded
    change = n * _step(distribution.probs)
    return _collect(value, [(rest + 1, change), (rest, -change)])
