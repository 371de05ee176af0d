"""The best guide of a linear-Gaussian chain that moves the mean of its noise: linear-quadratic control.

The chain is z_t = A_t z_{t-1} + b_t + L_t e_t with e_t ~ N(0, I), and Gaussian sites are the evidence, as
in `linear_gaussian`. A guide draws e_t ~ N(m_t, P_t) with an m_t that may depend on z_{t-1}. Its bound,

    E[sum_t log site_t(H z_t)] - sum_t E[KL(N(m_t, P_t) | N(0, I))],

is quadratic in z_{t-1}, and its best m_t linear: m_t = K_t z_{t-1} + k_t, by one recursion from the last
index to the first. Where P_t is free too, the guide is the posterior, and its bound the log evidence.
Where P_t = I, as in the control of a diffusion, log det(I + L' S L) / 2 is replaced by the larger tr(L' S
L) / 2. With steps of length dt both are of order dt, and their difference is of order dt^2: in continuous
time there is none.

References: Åström, "Introduction to stochastic control theory", 1970, chapter 8; Kappen, Gómez, Opper,
"Optimal control as a graphical model inference problem", 2012.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models.common.linear_gaussian import Chain, Sites, moments


class Feedback(NamedTuple):
    """The noise of the best guide: e_t ~ N(gain_t z_{t-1} + offset_t, root_t root_t').

    Attributes:
        gain: K, of shape (times, noises, states); at the first index nothing comes before, and it is zero.
        offset: k, of shape (times, noises).
        root: lower triangular, of shape (times, noises, noises).
        bound: of the guide, a scalar; at most the log evidence.
    """

    gain: jax.Array
    offset: jax.Array
    root: jax.Array
    bound: jax.Array


class _Value(NamedTuple):
    """z' quadratic z / 2 - linear' z + constant: the least that is still to pay from state z on."""

    quadratic: jax.Array
    linear: jax.Array
    constant: jax.Array


def best_guide(prior: Chain, seen: jax.Array, sites: Sites, free: Any = False) -> Feedback:
    """The best guide of a chain given sites.

    Args:
        prior: runs from the first index to the last; its factors may have any number of columns.
        seen: H, of shape (values, states).
        sites: one for each index.
        free: whether the covariance of the noise is free as well; one Boolean, or one for each index.
    """
    times, states = prior.offset.shape
    last = _Value(jnp.zeros((states, states)), jnp.zeros(states), jnp.zeros(()))

    def step(value: _Value, now: tuple[Chain, Sites, jax.Array]) -> tuple[_Value, tuple[jax.Array, ...]]:
        chain, site, is_free = now
        value = value._replace(
            quadratic=value.quadratic + seen.T @ site.precision @ seen,
            linear=value.linear + seen.T @ site.linear,
        )
        return _before(value, chain, is_free)

    free = jnp.broadcast_to(jnp.asarray(free), (times,))
    value, rows = jax.lax.scan(step, last, (prior, sites, free), reverse=True)
    return Feedback(*rows, -value.constant)


def _before(value: _Value, chain: Chain, free: jax.Array) -> tuple[_Value, tuple[jax.Array, ...]]:
    """The value one index earlier, and the noise that attains it."""
    matrix, shift, factor = chain
    pull = factor.T @ value.quadratic
    lower = jnp.linalg.cholesky(jnp.eye(factor.shape[1]) + pull @ factor)
    solve = lambda right: jax.scipy.linalg.cho_solve((lower, True), right)
    gain = -solve(pull @ matrix)
    offset = -solve(pull @ shift - factor.T @ value.linear)
    spent = jnp.where(free, jnp.sum(jnp.log(jnp.diag(lower))), 0.5 * jnp.trace(pull @ factor))
    quadratic = value.quadratic - pull.T @ solve(pull)
    linear = value.linear - pull.T @ solve(factor.T @ value.linear)
    moved = factor.T @ value.linear
    constant = value.constant + spent - 0.5 * moved @ solve(moved)
    constant += 0.5 * shift @ quadratic @ shift - linear @ shift
    earlier = _Value(matrix.T @ quadratic @ matrix, matrix.T @ (linear - quadratic @ shift), constant)
    covariance = solve(jnp.eye(len(lower)))
    root = jnp.where(free, jnp.linalg.cholesky(covariance), jnp.eye(len(lower)))
    return earlier, (gain, offset, root)


def bound_of(prior: Chain, seen: jax.Array, sites: Sites, guide: Feedback) -> jax.Array:
    """The bound of any guide of this form, from the moments of its chain; `guide.bound` is not looked at."""
    factor = prior.factor
    steered = Chain(
        prior.matrix + factor @ guide.gain,
        prior.offset + jnp.einsum("tsn,tn->ts", factor, guide.offset),
        factor @ guide.root,
    )
    mean, covariance = moments(steered)
    second = covariance + mean[:, :, None] * mean[:, None, :]
    values = jnp.einsum("vs,tsr,wr->tvw", seen, second, seen)
    evidence = jnp.sum(sites.linear * (mean @ seen.T)) - 0.5 * jnp.sum(sites.precision * values)
    before = lambda some: jnp.concatenate([jnp.zeros_like(some[:1]), some[:-1]])
    drawn = jnp.einsum("tns,tsr,tmr->tnm", guide.gain, before(covariance), guide.gain)
    shift = jnp.einsum("tns,ts->tn", guide.gain, before(mean)) + guide.offset
    spread = jnp.sum(guide.root**2, axis=(1, 2)) - guide.root.shape[-1]
    volume = jnp.sum(jnp.log(jnp.diagonal(guide.root, axis1=1, axis2=2)), axis=1)
    energy = jnp.trace(drawn, axis1=1, axis2=2) + jnp.sum(shift**2, axis=1) + spread
    return evidence - jnp.sum(0.5 * energy - volume)
