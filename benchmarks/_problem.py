"""What a problem for gradient estimators is, and what the four of `_problems.py` share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

# Estimator of a choice, from what the program knows where it is made.
How = Callable[["At"], Any]


class At(NamedTuple):
    """What a baseline or a control variate may depend on.

    Attributes:
        datum: what is observed there; all of it, if the choice is not of one datum.
        tuned: parameters of the estimator itself, trained before anything is measured.
        relaxed: the rest of the program at a relaxed value of the choice, where it has a meaning there.
    """

    datum: Any
    tuned: Any
    relaxed: Any = None


class Problem(NamedTuple):
    """One problem.

    Attributes:
        name, title: short, and as it is printed.
        params: of the guide.
        constants: data and parameters of the model.
        objective: the ELBO, an expectation of `params, tuned`, from the estimator of the choice in question.
            Where that makes floats of bits, the bits of the model need to be told too: a second argument.
        elbo: the same as a deterministic function of `params, constants`.
        measured: the part of a gradient whose variance counts: the parameters of the choice in question.
    """

    name: str
    title: str
    params: Any
    constants: dict[str, Any]
    objective: Callable[..., Any]
    elbo: Callable[[Any, Any], Any]
    measured: Callable[[Any], Any] = lambda gradient: gradient

    def flat(self, gradient: Any) -> np.ndarray:
        """What is measured of a gradient, as one vector."""
        leaves = jax.tree.leaves(self.measured(gradient))
        return np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in leaves])

    def truth(self) -> np.ndarray:
        """The exact gradient, as one vector; in double precision."""
        with jax.enable_x64(True):
            double = lambda tree: jax.tree.map(_as_double, tree)
            return self.flat(jax.jit(jax.grad(self.elbo))(double(self.params), double(self.constants)))


def _as_double(x: Any) -> Any:
    x = np.asarray(x)
    return jnp.asarray(x, jnp.float64 if np.issubdtype(x.dtype, np.floating) else x.dtype)


def ascended(elbo: Callable[[Any], Any], params: Any, steps: int, rate: float) -> Any:
    """Some steps of Adam on a function that is known exactly."""
    optimizer = optax.adam(rate)
    if not steps:
        return params

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        updates, state = optimizer.update(jax.tree.map(jnp.negative, jax.grad(elbo)(params)), state)
        return (optax.apply_updates(params, updates), state), None

    start = (params, optimizer.init(params))
    return jax.jit(lambda start: jax.lax.scan(step, start, None, length=steps)[0][0])(start)


def layers(rng: np.random.Generator, *sizes: int) -> list[Any]:
    """Weights of fully connected layers."""
    return [
        (jnp.asarray(rng.normal(size=(m, n)) / m**0.5, jnp.float32), jnp.zeros(n)) for m, n in pairwise(sizes)
    ]


def network(weights: Any, x: Any) -> Any:
    """One hidden layer; any leading axes."""
    (w1, b1), (w2, b2) = weights
    return jnp.tanh(x @ w1 + b1) @ w2 + b2
