"""How a draw of a mixture moves with its weights and components.

Choosing a component is a jump, so a mixture's own sampler has no derivative. Its *distributional transform*
(Rosenblatt's) has: with F_d the distribution function of entry d given the entries before it, u_d = F_d(x_d |
x_<d) are independent uniform numbers, whatever the parameters are, and a draw that keeps them moves by

    dx_d = -dF_d / p_d = sum_k r_k v_k - sum_k dw_k F_k(x_d) / p_d(x_d).

Here w_k is the weight of component k given x_<d, r_k = w_k p_k(x_d) / p_d(x_d) its responsibility, which is
its weight for the next entry, and v_k how x_d would move if component k were all there is. All is relative to
densities, in logarithms; since the dw_k sum to zero, F_k - 1 takes the place of F_k in the upper tail.
Derivatives of any order exist where those of the components do.

References:
    Graves, "Stochastic backpropagation through mixture density distributions", 2016.
    Figurnov, Mohamed, Mnih, "Implicit reparameterization gradients", 2018, section 4 and appendix.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import log_ndtr, logsumexp

from ppl.distributions.density import at_least_float32, log_density
from ppl.distributions.distribution_function import log_tails, mixing_weights, standardize

_MOST = 80.0  # the logarithm of the greatest ratio of densities that is told from infinity


def components(mixture: Any) -> list[Any]:
    """The components: one distribution of many instances, or a list."""
    if isinstance(mixture, dist.MixtureSameFamily):
        return [mixture.component_distribution]
    return list(mixture.component_distributions)


def entries(component: Any) -> Any:
    """A component whose event is an array of independent entries, without that wrapping."""
    while isinstance(component, dist.Independent | dist.ExpandedDistribution):
        component = component.base_dist
    return component


def is_normal(component: Any) -> bool:
    """Whether a component is a normal vector."""
    return isinstance(entries(component), dist.MultivariateNormal | dist.LowRankMultivariateNormal) and (
        len(component.event_shape) == 1
    )


@jax.custom_jvp
def attach(sample: Any, mixture: Any) -> Any:
    """The sample, with the derivative of a draw of the mixture.

    Raises:
        UnsupportedProgram: a second derivative is taken, and a component is known implicitly only.
    """
    return sample


@attach.defjvp
def _(primals: Any, tangents: Any) -> Any:
    # What the derivative depends on moves too, so that it can be differentiated in turn.
    moving = attach(*primals)
    mixture, step = at_least_float32(primals[1]), at_least_float32(tangents[1])
    return moving, _move(mixture, step, at_least_float32(moving)).astype(moving.dtype)


class _Entry(NamedTuple):
    """What the components say of the entries of one event; each array has shape `(D, *batch, K)`.

    Attributes:
        standard: S(x), a number whose law is free of the parameters.
        moved: its derivative along the parameters.
        slope: its derivative in the entry itself.
        density: log density of the entry, given those before it.
        gained: its derivative along the parameters.
        pull: its derivative in the entry itself.
        tails: log F and log(1 - F).
        inverse: of normal vectors, the inverse Cholesky factors, `(D, *batch, K, D)`; S of an entry depends
            on the entries before it through them.
    """

    standard: Any
    moved: Any
    slope: Any
    density: Any
    gained: Any
    pull: Any
    tails: Any
    inverse: Any = None


def _move(mixture: Any, step: Any, x: Any) -> Any:
    """The derivative of a draw `x` along `step`, a tangent of the mixture."""
    weights, turned = jax.jvp(mixing_weights, (mixture,), (step,))
    normal = all(is_normal(part) for part in components(mixture))
    table = (_normal_entries if normal else _independent_entries)(mixture, step, x)
    batch = x.shape[: x.ndim - len(mixture.event_shape)]
    shape = (*batch, weights.shape[-1])
    dimension = table.density.shape[0]
    start = (
        jnp.log(jnp.broadcast_to(weights, shape)),
        jnp.broadcast_to(turned, shape),
        jnp.zeros((*batch, dimension), x.dtype),
    )
    if dimension == 1:
        _, _, moved = _next(start, jnp.asarray(0), jax.tree.map(lambda array: array[0], table))
    else:

        def one(state: Any, row: Any) -> Any:
            return _next(state, *row), None

        (_, _, moved), _ = jax.lax.scan(one, start, (jnp.arange(dimension), table))
    return moved.reshape(x.shape)


def _next(state: Any, number: Any, entry: _Entry) -> Any:
    """One entry: how it moves, and the weights given it too."""
    log_weights, turned, moved = state
    shift, gained = entry.moved, entry.gained
    if entry.inverse is not None:
        drawn = jnp.sum(entry.inverse * moved[..., None, :], axis=-1)
        shift, gained = shift + drawn, gained - entry.standard * drawn
    whole = logsumexp(log_weights + entry.density, axis=-1, keepdims=True)
    share = jnp.exp(log_weights + entry.density - whole)
    low, high = (logsumexp(log_weights + tail, axis=-1, keepdims=True) for tail in entry.tails)
    below, above = (_ratio(tail - whole) for tail in entry.tails)
    passed = jnp.where(low < high, below, -above)
    here = jnp.sum(_weighted(share, -shift / entry.slope) - turned * passed, axis=-1)
    gained = _weighted(share, gained + entry.pull * here[..., None])
    turned = turned * _ratio(entry.density - whole) + gained
    turned = turned - share * jnp.sum(turned, axis=-1, keepdims=True)
    place = jnp.arange(moved.shape[-1]) == number
    return log_weights + entry.density - whole, turned, moved + jnp.where(place, here[..., None], 0)


def _ratio(log_ratio: Any) -> Any:
    return jnp.exp(jnp.minimum(log_ratio, _MOST))


def _weighted(share: Any, x: Any) -> Any:
    """The product, which is zero where the share is, however large the other is."""
    return jnp.where(share > 0, share * jnp.where(share > 0, x, 0), 0)


def _rows(mixture: Any, arrays: list[Any], x: Any) -> Any:
    """What was computed entry by entry for each part, as one array of shape `(D, *batch, K)`."""
    event = len(mixture.event_shape)
    batch = x.shape[: x.ndim - event]
    shape = (*batch, mixture.mixture_size, *x.shape[x.ndim - event :])
    if isinstance(mixture, dist.MixtureSameFamily):
        (array,) = arrays
    else:
        array = jnp.stack([jnp.broadcast_to(array, x.shape) for array in arrays], axis=len(batch))
    flat = jnp.broadcast_to(array, shape).reshape(*shape[: len(batch) + 1], -1)
    return jnp.moveaxis(flat, -1, 0)


def _against(mixture: Any, x: Any) -> Any:
    """The draw, to be broadcast against the components."""
    if isinstance(mixture, dist.MixtureSameFamily):
        return jnp.expand_dims(x, x.ndim - len(mixture.event_shape))
    return x


def _independent_entries(mixture: Any, step: Any, x: Any) -> _Entry:
    def at(function: Any, mixture: Any, x: Any) -> Any:
        return _rows(mixture, [function(entries(p), _against(mixture, x)) for p in components(mixture)], x)

    def both(mixture: Any, x: Any) -> Any:
        return at(standardize, mixture, x), at(log_density, mixture, x)

    (standard, density), (moved, gained) = jax.jvp(lambda m: both(m, x), (mixture,), (step,))
    _, (slope, pull) = jax.jvp(lambda x: both(mixture, x), (x,), (jnp.ones_like(x),))
    tails = [at(lambda p, x, side=side: log_tails(p, x)[side], mixture, x) for side in (0, 1)]
    return _Entry(standard, moved, slope, density, gained, pull, tails)


def _normal_entries(mixture: Any, step: Any, x: Any) -> _Entry:
    """Whitened, z = L^-1 (x - loc), the entries of a normal vector are independent."""
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)

    def inverse(mixture: Any) -> Any:
        factors = [_factor(entries(part)) for part in components(mixture)]
        solved = [solve_triangular(f, jnp.broadcast_to(identity, f.shape), lower=True) for f in factors]
        shape = (*x.shape[:-1], mixture.mixture_size, *identity.shape)
        if isinstance(mixture, dist.MixtureSameFamily):
            return jnp.broadcast_to(solved[0], shape)
        one = (*x.shape[:-1], *identity.shape)
        return jnp.stack([jnp.broadcast_to(s, one) for s in solved], axis=x.ndim - 1)

    def both(mixture: Any) -> Any:
        parts = [_against(mixture, x) - entries(part).loc for part in components(mixture)]
        centered = jnp.moveaxis(_rows(mixture, parts, x), 0, -1)
        roots = inverse(mixture)
        z = jnp.moveaxis((roots @ centered[..., None])[..., 0], -1, 0)
        diagonal = jnp.moveaxis(jnp.diagonal(roots, axis1=-2, axis2=-1), -1, 0)
        return z, jnp.log(diagonal) - 0.5 * (z**2 + jnp.log(2 * jnp.pi)), diagonal, roots

    (z, density, diagonal, roots), (moved, gained, _, _) = jax.jvp(both, (mixture,), (step,))
    tails = [log_ndtr(z), log_ndtr(-z)]
    below = jnp.moveaxis(roots, -2, 0)
    return _Entry(z, moved, diagonal, density, gained, -z * diagonal, tails, below)


def _factor(component: Any) -> Any:
    if isinstance(component, dist.LowRankMultivariateNormal):
        return jnp.linalg.cholesky(component.covariance_matrix)
    return component.scale_tril
