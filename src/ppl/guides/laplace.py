"""The normal at the mode: Laplace's approximation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import optax
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular

from ppl.choices import Choices
from ppl.errors import NonFiniteObjective, UnsupportedProgram
from ppl.guides.full_rank import FullRank, normal_params
from ppl.measure import Measure
from ppl.source import user_line
from ppl.transported import Transported
from ppl.unconstrained import Unconstrained


class Laplace(NamedTuple):
    """Laplace's approximation of a target; a pytree.

    Attributes:
        measure: the normal, over the target's latent choices.
        params: of `FullRank(target)`: at them it is this measure, a start for training.
        mode: where the density over unconstrained vectors is largest.
        log_normalizer: an approximation of `log Z`, exact if the target is normal in unconstrained space.
        decrement: about how much higher, in nats, the density may still be than at `mode`.
    """

    measure: Transported
    params: dict[str, Any]
    mode: Choices
    log_normalizer: jax.Array
    decrement: jax.Array


class _Found(NamedTuple):
    vector: jax.Array
    log_density: jax.Array
    slope: jax.Array
    precision: jax.Array


def laplace(
    target: Measure, key: jax.Array | None = None, *, start: Any = None, steps: int = 500
) -> Laplace:  # fmt: skip
    """The normal in unconstrained space at a mode of the target, with the curvature that it has there.

        z ~ N(m, H^-1),    m = argmax log p(z),    H = -d^2 log p / dz^2 at m

    with `z` the vector of `ppl.unconstrained(target)` and `p` its density, change of variables included; and
    `log Z` about `log p(m) + d / 2 log 2 pi - 1/2 log |H|`. The mode is found by L-BFGS and Newton's method.
    Nothing is trained: it costs some hundred gradients and one Hessian, `d` gradients more. It is good where
    data are many, and sees one mode.

    Args:
        target: a conditioned program, or one without observations.
        key: of the start, where the density is finite.
        start: choices to start from instead.
        steps: of L-BFGS, at most.

    Raises:
        TypeError: neither a key nor a start.
        UnsupportedProgram: a latent choice is discrete, or has an estimated density; or there is no mode:
            the Hessian is not positive definite where the search ends (it says along which entry), or a
            density that still rises after `steps`. Also inside `jax.jit`, where nothing can be raised.
        NonFiniteObjective: no start with a finite density.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> found = ppl.guides.laplace(model().condition({"y": 1.0}), jax.random.key(0))
        >>> float(found.mode["x"].round(4)), float(found.log_normalizer.round(4))  # log N(1; 0, sqrt(2))
        (0.5, -1.5155)

    References:
        Laplace, "Mémoire sur la probabilité des causes par les évènements", 1774.
        Tierney, Kadane, "Accurate approximations for posterior moments and marginal densities", 1986.
    """
    family = FullRank(target)
    latent = family.latent
    if key is None and start is None:
        raise TypeError(f"laplace needs a key, to find a start, or a `start` ({user_line()})")
    vector = family.initial(key)["loc"] if key is not None and start is None else latent.unconstrain(start)
    found = _newton(latent, _search(latent, vector, steps))
    if isinstance(found.vector, Tracer):
        raise UnsupportedProgram(
            "laplace checks that it has found a mode, which inside a transformation such as jax.jit it "
            f"cannot ({user_line()}). Call it outside."
        )
    precision = _symmetric(latent, found)
    root = jnp.linalg.cholesky(precision)
    normal = npd.MultivariateNormal(found.vector, precision_matrix=precision)
    decrement = 0.5 * jnp.sum(solve_triangular(root, found.slope, lower=True) ** 2)
    if not decrement <= 0.01:
        raise UnsupportedProgram(
            f"laplace: after {steps} steps the density of {target!r} still rises, by about {decrement:.2g} "
            "nats. Give more `steps`, or a `start`."
        )
    size = latent.size
    log_normalizer = (
        found.log_density + 0.5 * size * math.log(2 * math.pi) - jnp.sum(jnp.log(jnp.diagonal(root)))
    )
    return Laplace(
        Transported(latent, normal, name="laplace"), normal_params(found.vector, normal.scale_tril),
        latent.constrain(found.vector)[0], log_normalizer, decrement,
    )  # fmt: skip


@jax.jit
def _search(latent: Unconstrained, vector: jax.Array, steps: Any) -> jax.Array:
    """Where L-BFGS ends."""

    def cost(vector: jax.Array) -> jax.Array:
        return -latent.log_density(vector)

    solver = optax.lbfgs()
    value_and_grad: Any = optax.value_and_grad_from_state(cost)

    def step(state: Any) -> Any:
        vector, solved, number, _ = state
        value, slope = value_and_grad(vector, state=solved)
        change, solved = solver.update(slope, solved, vector, value=value, grad=slope, value_fn=cost)
        moved = optax.apply_updates(vector, change)
        return moved, solved, number + 1, jnp.max(jnp.abs(slope))

    def goes_on(state: Any) -> Any:
        _, _, number, slope = state
        return (number < steps) & ~(slope < 1e-5)

    start = (vector, solver.init(vector), 0, jnp.asarray(jnp.inf, vector.dtype))
    return jax.lax.while_loop(goes_on, step, start)[0]


@jax.jit
def _newton(latent: Unconstrained, vector: jax.Array) -> _Found:
    """The last digits, which a search along lines of rounded values does not see."""

    def at(vector: jax.Array) -> _Found:
        value, slope = jax.value_and_grad(latent.log_density)(vector)
        return _Found(vector, value, slope, -jax.hessian(latent.log_density)(vector))

    def step(found: _Found, _: Any) -> Any:
        new = at(found.vector + jnp.linalg.solve(found.precision, found.slope))
        closer = jnp.sum(new.slope**2) < jnp.sum(found.slope**2)
        near = new.log_density >= found.log_density - 1e-3
        return jax.tree.map(lambda a, b: jnp.where(closer & near, a, b), new, found), None

    return jax.lax.scan(step, at(vector), length=3)[0]


def _symmetric(latent: Unconstrained, found: _Found) -> jax.Array:
    """The precision, which rounding leaves a little asymmetric, with a Cholesky factor.

    Raises:
        NonFiniteObjective, UnsupportedProgram: it has none.
    """
    precision = np.asarray(found.precision)
    precision = (precision + precision.T) / 2
    if not (np.isfinite(precision).all() and np.isfinite(found.log_density)):
        raise NonFiniteObjective(
            f"laplace: the density of {latent.target!r}, or its second derivative, is not finite where the "
            "search for the mode ends. Give a `start` near the mode."
        )
    values, directions = np.linalg.eigh(precision)
    if not values[0] > 1e-6 * max(values[-1], 0.0):
        entry = latent.names[int(np.argmax(np.abs(directions[:, 0])))]
        raise UnsupportedProgram(
            f"laplace: the negative Hessian of {latent.target!r} is not positive definite where the search "
            f"for the mode ends: an eigenvalue is {values[0]:.3g}, mostly along {entry!r} "
            f"(at {float(found.vector[latent.names.index(entry)]):.3g} in unconstrained space). The density "
            "has no mode there, or is flat. Give another `start`, a prior that bounds it, or fit "
            "`ppl.guides.FullRank`."
        )
    return jnp.asarray(precision)
