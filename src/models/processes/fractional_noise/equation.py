"""Stochastic differential equations driven by the approximate process, as programs.

With one Brownian motion W_d and K processes Y_dk for each dimension d, and w of `coefficients.py`,

    dY_dk = -γ_k Y_dk dt + dW_d,      dX_d = b_d(t, X) dt + s_d(t, X) sum_k w_k dY_dk.

The choices are the increments of W along a `jax.lax.scan` of Euler steps. The guide moves them by a
control, dW ~ N(u dt, dt) where the prior has N(0, dt), so that everything that is driven by W moves with
it. Then

    log p - log q = sum_n -u_n (dW_n - u_n dt) - u_n^2 dt / 2,

whose first term is a martingale of mean zero. `ppl.elbo` keeps it. Without it there is the energy alone,
which is the divergence in closed form; with it the bound is the same for every path where the guide is
exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import ppl
from models.processes.fractional_noise.coefficients import Driver


class State(NamedTuple):
    """X of shape (dimensions,) and Y of shape (dimensions, K)."""

    x: jax.Array
    y: jax.Array


class Controlled(NamedTuple):
    """A path of the guide: the states after each step, and the control in it; leading axis of steps."""

    path: State
    control: jax.Array


Field = Callable[[jax.Array, jax.Array], tuple[Any, Any]]
"""Drift b and diffusion s at (t, x)."""
Control = Callable[[Any, State], jax.Array]
"""u, of what is known of a step and the state before it."""


def at_zero(dimensions: int, number: int) -> State:
    """X(0) = 0 and Y(0) = 0."""
    return State(jnp.zeros(dimensions), jnp.zeros((dimensions, number)))


def advance(driver: Driver, field: Field, dt: float, t: jax.Array, state: State, dw: jax.Array) -> State:
    """One step of Euler, from time t."""
    drift, diffusion = field(t, state.x)
    dy = -driver.rates * state.y * dt + dw[:, None]
    return State(state.x + drift * dt + diffusion * (dy @ driver.weights), state.y + dy)


def increment(control: jax.Array, dt: float) -> ppl.Measure:
    """That of W in a step, in the precision of the control."""
    return ppl.normal(control * dt, jnp.full_like(control, dt**0.5))


@ppl.gen
def prior_path(driver: Driver, field: Field, dt: float, times: jax.Array, start: State):
    """The states after steps that begin at these times."""

    def step(state: State, t: jax.Array) -> tuple[State, State]:
        dw = increment(jnp.zeros_like(state.x), dt) @ "dW"
        state = advance(driver, field, dt, t, state, dw)
        return state, state

    return jax.lax.scan(step, start, times)[1]


@ppl.gen
def guided_path(
    driver: Driver, field: Field, dt: float, times: jax.Array, start: State, control: Control, known: Any
):
    """The same under a control of what is `known` of each step, a pytree with a leading axis of steps."""

    def step(state: State, now: Any) -> tuple[State, Controlled]:
        t, facts = now
        u = control(facts, state)
        dw = increment(u, dt) @ "dW"
        state = advance(driver, field, dt, t, state, dw)
        return state, Controlled(state, u)

    return jax.lax.scan(step, start, (times, known))[1]


def energy(control: jax.Array, dt: float) -> jax.Array:
    """int |u|^2 dt / 2, the divergence of a controlled path from the prior's."""
    return 0.5 * jnp.sum(control**2) * dt
