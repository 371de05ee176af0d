"""Finite choices as rounded continuous variables: the relaxations behind RELAX, REBAR and Gumbel-softmax.

A choice `b` of log odds, or log probabilities, `l` is `b = H(z)` of the relaxed variable

    a coin:          z = l + log(u / (1 - u)),      b = 1[z > 0],
    a category:      z_k = l_k - log(-log u_k),     b = argmax_k z_k,

with `u` uniform. Given `b`, the law of `z` is elementary too: a function of `l`, of `b` and of other uniform
numbers `v`. Everything here draws `b` by its family's own law and `z` given `b`. So `b` is exact, no derived
program compares, and `z` has its own law all the same.

Log odds and log probabilities are kept within +-1e4, beyond which a probability is zero in every precision.

References:
    Maddison, Tarlow, Minka, "A* sampling", 2014 (the Gumbel variables given the largest).
    Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein, "REBAR: Low-variance, unbiased gradient estimates for
    discrete latent variable models", 2017 (appendix A; z given b).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from ppl.distributions.flip import Flip
from ppl.distributions.one_hot import OneHotCategoricalLogits, OneHotCategoricalProbs
from ppl.distributions.registry import float_dtype, working_dtype
from ppl.noise import Noise

LARGE = 1e4


class Relaxation(NamedTuple):
    """How a finite choice is a rounded continuous variable `z`, whose shape is that of `l`.

    Attributes:
        axes: how many trailing axes of `z` belong to one instance.
        location: `l` of a distribution, in float32 or better.
        hard: a value of the choice as a vertex, the float array of zeros and ones that `soft` rounds to.
        conditional: `(l, vertex, v) -> z` given the choice, from uniform numbers `v`.
        marginal: `v -> z - l`, from uniform numbers.
        soft: `z -> [0, 1]`, which at `z / temperature` tends to the vertex as the temperature falls.
        in_place: whether a vertex, and so a relaxed value, can take the place of the choice's own value.
    """

    axes: int
    location: Callable[[Any], Any]
    hard: Callable[[Any, Any], Any]
    conditional: Callable[[Any, Any, Any], Any]
    marginal: Callable[[Any], Any]
    soft: Callable[[Any], Any]
    in_place: bool


def relaxation(distribution: Any) -> Relaxation | None:
    """How the distribution is relaxed, or `None` if no relaxation is known.

    Example:
        >>> import numpyro.distributions as dist
        >>> relaxation(dist.BernoulliLogits(0.3)).axes, relaxation(dist.Poisson(2.0))
        (0, None)
    """
    for cls in type(distribution).__mro__:
        if cls in _RULES:
            return _RULES[cls] if type(distribution).log_prob is cls.log_prob else None
    return None


class Relaxed(NamedTuple):
    """A draw, and the relaxed variables behind it.

    Attributes:
        z: of the relaxed law, with derivative one in `l`, as its uniform numbers are held fixed.
        conditional: of the law given the draw; its uniform numbers are held fixed there.
    """

    z: Any
    conditional: Any


def relaxed_noise(distribution: Any, value: Any, noise: Noise) -> Relaxed:
    """The relaxed variables behind the draw `value`, from one set of uniform numbers.

    Both are equal in value and differ in derivative: `z` moves with `l` alone, as its own numbers `u` are
    fixed, `conditional` as the numbers `v` are. The two share their numbers: only the law of each matters.
    """
    rule = _rule(distribution)
    location, vertex = rule.location(distribution), rule.hard(distribution, value)
    uniform = noise.uniform(location.shape, location.dtype)
    conditional = rule.conditional(location, vertex, uniform)
    return Relaxed(_moving_with(location, conditional), conditional)


def relaxed_given(distribution: Any, value: Any, noise: Noise, count: int) -> Any:
    """`count` independent relaxed variables given the draw `value`, in front, with derivative one in `l`."""
    rule = _rule(distribution)
    location, vertex = rule.location(distribution), rule.hard(distribution, value)
    uniform = noise.uniform((count, *location.shape), location.dtype)
    return _moving_with(location, rule.conditional(location, vertex, uniform))


def relaxed_draw(distribution: Any, noise: Noise) -> Any:
    """A relaxed variable of the relaxed law, with derivative one in `l`."""
    rule = _rule(distribution)
    location = rule.location(distribution)
    return location + rule.marginal(noise.uniform(location.shape, location.dtype))


def value_dtype(distribution: Any) -> Any:
    """The dtype of a relaxed value: that of the parameters."""
    return float_dtype(*jax.tree.leaves(distribution))


def _moving_with(location: Any, z: Any) -> Any:
    return jax.lax.stop_gradient(z) + (location - jax.lax.stop_gradient(location))


def _rule(distribution: Any) -> Relaxation:
    rule = relaxation(distribution)
    assert rule is not None, "admits() has said that there is one"
    return rule


def _wide(parameter: Any) -> Any:
    parameter = jnp.asarray(parameter)
    return parameter.astype(working_dtype(float_dtype(parameter)))


# --- coins ----------------------------------------------------------------------------------------


def _log_odds(distribution: Any) -> Any:
    if isinstance(distribution, dist.BernoulliLogits):
        return jnp.clip(_wide(distribution.logits), -LARGE, LARGE)
    probs = _wide(distribution.probs)
    inside = (probs > 0) & (probs < 1)
    safe = jnp.where(inside, probs, 0.5)
    ends = jnp.where(probs < 0.5, -LARGE, LARGE).astype(probs.dtype)
    return jnp.where(inside, jnp.log(safe) - jnp.log1p(-safe), ends)


def _logit(uniform: Any) -> Any:
    return jnp.log(uniform) - jnp.log1p(-uniform)


def _coin_given(location: Any, vertex: Any, uniform: Any) -> Any:
    """log(1 + v / ((1 - v) (1 - p))) after a one, and its mirror image after a zero."""
    sign = 2 * vertex - 1
    return sign * jax.nn.softplus(_logit(uniform) + jax.nn.softplus(sign * location))


COIN = Relaxation(
    axes=0,
    location=_log_odds,
    hard=lambda distribution, value: jnp.asarray(value, working_dtype(value_dtype(distribution))),
    conditional=_coin_given,
    marginal=_logit,
    soft=jax.nn.sigmoid,
    in_place=True,
)


# --- categories -----------------------------------------------------------------------------------


def _log_probs(distribution: Any) -> Any:
    if isinstance(distribution, dist.CategoricalLogits | OneHotCategoricalLogits):
        return jnp.maximum(jax.nn.log_softmax(_wide(distribution.logits), axis=-1), -LARGE)
    probs = _wide(distribution.probs)
    return jnp.where(probs > 0, jnp.log(jnp.where(probs > 0, probs, 1)), -LARGE)


def _log_exponential(uniform: Any) -> Any:
    return jnp.log(-jnp.log(uniform))


def _category_given(location: Any, vertex: Any, uniform: Any) -> Any:
    """-log e_i for the category i that was drawn, -log(e_i + e_k / p_k) for the others, e exponential."""
    log_e = _log_exponential(uniform)
    first = jnp.sum(vertex * log_e, axis=-1, keepdims=True)
    others = jnp.logaddexp(log_e - location, first)
    return -jnp.where(vertex > 0, log_e, others)


def _index_as_vertex(distribution: Any, value: Any) -> Any:
    count = jax.tree.leaves(distribution)[0].shape[-1]
    return jax.nn.one_hot(value, count, dtype=working_dtype(value_dtype(distribution)))


ONE_HOT = Relaxation(
    axes=1,
    location=_log_probs,
    hard=lambda distribution, value: jnp.asarray(value, working_dtype(value_dtype(distribution))),
    conditional=_category_given,
    marginal=lambda uniform: -_log_exponential(uniform),
    soft=lambda z: jax.nn.softmax(z, axis=-1),
    in_place=True,
)
CATEGORY = ONE_HOT._replace(hard=_index_as_vertex, in_place=False)

_RULES: dict[type, Relaxation] = {
    dist.BernoulliProbs: COIN,
    dist.BernoulliLogits: COIN,
    Flip: COIN,
    dist.CategoricalProbs: CATEGORY,
    dist.CategoricalLogits: CATEGORY,
    OneHotCategoricalProbs: ONE_HOT,
    OneHotCategoricalLogits: ONE_HOT,
}
