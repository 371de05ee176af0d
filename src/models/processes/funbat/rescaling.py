"""A step along what the data leave open: the scales and rotations of the factors.

The entries stay what they are where u^k becomes D u^k for an invertible D, and W is multiplied by the inverse
along mode k: only the divergences from the priors change. Coordinate ascent creeps along these directions, by
thousands of sweeps; here each D is set to its optimum given the other modes'. With n seen indices of a mode,

    S = E[sum_ij (K^-1)_ij u_i u_j']  over these,    C = E[W_(k) W_(k)'],    c columns of the unfolded W_(k),

the divergences depend on X = D'D by (tr(S X) + tr(C X^-1) - (n - c) log det X) / 2, whose minimum solves

    X S X = (n - c) X + C.

What comes out is no longer a chain times sites, which the next sweep mends; neither step lowers the bound.

Reference: Qi, Jaakkola, "Parameter expanded variational Bayesian methods", 2006.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from models.common.linear_gaussian import Chain, Sites, moments, posterior
from models.processes.funbat.model import Mode, ranks, seen_rows
from models.processes.funbat.statistics import Beliefs, Entries, Moments


def rescaled(modes: tuple[Mode, ...], data: Entries, beliefs: Beliefs, sites: tuple[Sites, ...]) -> Beliefs:
    """The beliefs, which are those of these sites, with each mode's D at its optimum, one after the other."""
    for k, (mode, at) in enumerate(zip(modes, seen_rows(data.index), strict=True)):
        beliefs = _rescaled(mode, sites[k], beliefs, float(len(at)), ranks(modes), k)
    return beliefs


@functools.partial(jax.jit, static_argnames=("sizes", "k"))
def _rescaled(
    mode: Mode, sites: Sites, beliefs: Beliefs, seen: float, sizes: tuple[int, ...], k: int
) -> Beliefs:
    core, own = beliefs.core, beliefs.factors[k]
    columns = math.prod(sizes) // sizes[k]
    matrix = root(spread(mode, sites, seen), unfolded(core.second, sizes, k), seen - columns)
    whole = along(jnp.linalg.inv(matrix).T, sizes, k)
    turned = Moments(own.mean @ matrix.T, matrix @ own.second @ matrix.T)
    factors = (*beliefs.factors[:k], turned, *beliefs.factors[k + 1 :])
    return beliefs._replace(factors=factors, core=Moments(whole @ core.mean, whole @ core.second @ whole.T))


def spread(mode: Mode, sites: Sites, seen: jax.Array | float) -> jax.Array:
    """S, of `seen` indices, outside of which the sites are zero.

    The innovations r_t = L_t^-1 (z_t - A_t z_(t-1)) are standard normal under the prior, so that
    sum_t E[r_t r_t'] is the same sum over all states, derivatives and unseen indices included. Given the
    functions at the seen indices these are as in the prior, and add one each.
    """
    chain = posterior(mode.prior, mode.seen, sites).chain
    back = jax.tree.map(lambda leaf: jnp.concatenate([jnp.zeros_like(leaf[:1]), leaf[:-1]]), chain)
    each = jax.vmap(_innovation)(mode.prior, back, *moments(chain, reverse=True))
    times, (rank, states) = len(each), mode.seen.shape
    own = each.reshape(times, rank, states // rank, rank, states // rank)
    return jnp.einsum("tisjs->ij", own) - (times * states / rank - seen) * jnp.eye(rank)


def _innovation(prior: Chain, back: Chain, mean: jax.Array, covariance: jax.Array) -> jax.Array:
    """E[r r'] of a state z, where the one before it is back.matrix z + back.offset + back.factor e."""
    solve = lambda x: solve_triangular(prior.factor, x, lower=True)
    matrix = solve(jnp.eye(len(mean)) - prior.matrix @ back.matrix)
    rest = solve(prior.matrix @ back.factor)
    center = matrix @ mean - solve(prior.matrix @ back.offset + prior.offset)
    return matrix @ covariance @ matrix.T + rest @ rest.T + jnp.outer(center, center)


def root(spread: jax.Array, core: jax.Array, excess: jax.Array | float) -> jax.Array:
    """D with D'D = X, the positive definite solution of X S X = excess X + C.

    With Y = S^(1/2) X S^(1/2) it is Y² = excess Y + S^(1/2) C S^(1/2), a quadratic equation for eigenvalues.
    """
    values, vectors = jnp.linalg.eigh(spread)
    half = vectors * jnp.sqrt(values) @ vectors.T
    inverse = vectors / jnp.sqrt(values) @ vectors.T
    products, basis = jnp.linalg.eigh(half @ core @ half)
    middle = jnp.sqrt(excess**2 / 4 + products)
    # The same root in two forms, of which one does not cancel.
    solved = jnp.where(excess > 0, excess / 2 + middle, products / (middle - jnp.minimum(excess, 0.0) / 2))
    return jnp.linalg.cholesky(inverse @ (basis * solved @ basis.T) @ inverse).T


def along(matrix: jax.Array, sizes: tuple[int, ...], mode: int) -> jax.Array:
    """What multiplies vec(W) where its axis of this mode is multiplied by the matrix."""
    before, after = math.prod(sizes[:mode]), math.prod(sizes[mode + 1 :])
    return jnp.kron(jnp.kron(jnp.eye(before), matrix), jnp.eye(after))


def unfolded(second: jax.Array, sizes: tuple[int, ...], mode: int) -> jax.Array:
    """C, from E[w w']."""
    before, after = math.prod(sizes[:mode]), math.prod(sizes[mode + 1 :])
    return jnp.einsum("aibajb->ij", second.reshape((before, sizes[mode], after) * 2))
