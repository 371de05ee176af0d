"""The variance of each estimator at stages of a run, whether means agree, and ablations that must fail.

All gradients are those of the presence's head, 129 numbers, one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _air_hand
import jax
import jax.numpy as jnp
import numpy as np

import ppl
from models.air.data import Canvases
from models.air.model import STARTS, Start
from models.air.objectives import STRATEGIES, Strategy, objective
from ppl.estimators import Reinforce
from ppl.objectives import wake_model

ESTIMATORS = ("ENUM", "MVD", "REINFORCE")
PROBABLE = (0.05, 0.95)
"""Where a presence is neither nearly sure nor nearly impossible, so that draws see both values."""

# Of a key, parameters and one image: the gradient in the presence's head, as a vector.
Gradient = Callable[[jax.Array, Any, jax.Array], jax.Array]


def flat(tree: Any) -> jax.Array:
    return jnp.concatenate([x.reshape(-1) for x in jax.tree.leaves(tree)])


def of(strategy: Strategy, start: Start) -> Gradient:
    one = objective(strategy, start)
    return lambda key, params, image: flat(one.grad(key, params, image[None])["presence"])


def drawn(gradient: Gradient, draws: int) -> Callable[..., Any]:
    """Mean and variance of so many gradients of each image, shape `(images, 129)` both."""

    def of_image(key: jax.Array, params: Any, image: jax.Array) -> Any:
        found = jax.vmap(gradient, (0, None, None))(jax.random.split(key, draws), params, image)
        return jnp.mean(found, 0), jnp.var(found, 0, ddof=1)

    @jax.jit
    def each(key: jax.Array, params: Any, images: jax.Array) -> Any:
        keys = jax.random.split(key, len(images))
        return jax.lax.map(lambda pair: of_image(pair[0], params, pair[1]), (keys, images))

    return lambda *args: jax.tree.map(lambda x: np.asarray(x, np.float64), each(*args))


def errors_apart(one: Any, other: Any, draws: int) -> float:
    """The largest difference of means over images, in standard errors, of any coordinate."""
    (mean, variance), (their_mean, their_variance) = one, other
    difference = np.mean(mean - their_mean, 0)
    error = np.sqrt(np.mean(variance + their_variance, 0) / draws / len(mean))
    return float(np.max(np.abs(difference[error > 0]) / error[error > 0]))


def probability(start: Start) -> Callable[[Any, jax.Array], jax.Array]:
    """Of the first presence, given an image."""

    def first(params: Any, image: jax.Array) -> jax.Array:
        seen, carry = _air_hand.begin(params, image)
        return _air_hand.look(params, seen, carry)[1]

    return jax.jit(jax.vmap(first, (None, 0)))


def variances(stages: dict[int, Any], images: jax.Array, draws: int, say: Callable[[str], None]) -> Any:
    """For each stage: the trace of the covariance, averaged over images; and how far means are apart."""
    start, rows = STARTS["pyro"], []
    samplers = {name: drawn(of(STRATEGIES[name], start), draws) for name in ESTIMATORS}
    for epoch, params in stages.items():
        found = {
            name: sampler(jax.random.key(i), params, images)
            for i, (name, sampler) in enumerate(samplers.items())
        }
        probabilities = np.asarray(probability(start)(params, images))
        likely = (probabilities > PROBABLE[0]) & (probabilities < PROBABLE[1])
        row = {"epoch": epoch, "images between": int(likely.sum()), "images": len(images)}
        row |= {name: float(np.mean(np.sum(v, 1))) for name, (_, v) in found.items()}
        for name in ESTIMATORS[1:]:
            chosen = [tuple(x[likely] for x in found[each]) for each in (name, "ENUM")]
            row[f"{name} apart"] = errors_apart(*chosen, draws) if likely.any() else None
        rows.append(row)
        say(f"variance after epoch {epoch}: " + ", ".join(f"{n} {row[n]:.3g}" for n in ESTIMATORS))
    return rows


# --- what must fail


def naive(straight_through: bool) -> Gradient:
    """The derivative of the bound at fixed flips, whose own is left out, or made up: that of their mean."""

    def bound(head: Any, params: Any, image: jax.Array, key: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        whats = len(params["decoder"][0]["w"])
        uniforms = jax.random.uniform(first, (_air_hand.SLOTS,))
        noise = jax.random.normal(second, (_air_hand.SLOTS, 3 + whats))
        params = {**params, "presence": head}
        return _air_hand.run(params, image, uniforms, noise, straight_through=straight_through)[0]

    return lambda key, params, image: flat(jax.grad(bound)(params["presence"], params, image, key))


def single_particle_wake_sleep(target: ppl.Measure, proposal: Any) -> jax.Array:
    """Reweighted wake-sleep with one particle, whose weight is one: `ppl.objectives` refuses to make it."""
    fixed = jax.tree.map(jax.lax.stop_gradient, proposal).using(lambda address, family: Reinforce())
    return wake_model(1)(target, proposal) + proposal.log_density(fixed.propose().choices)


def ablations(params: Any, images: jax.Array, draws: int) -> dict[str, Any]:
    """At the start, where every first presence is probable: how far each is from the gradient it stands for.

    The guide's part of wake-sleep with one particle is compared with zero.
    """
    start = STARTS["pyro"]
    truth = drawn(of(STRATEGIES["ENUM"], start), draws)(jax.random.key(0), params, images)
    zero = (np.zeros_like(truth[0]),) * 2
    apart = {
        name: errors_apart(drawn(naive(straight), draws)(jax.random.key(1), params, images), truth, draws)
        for name, straight in (("ignored", False), ("straight-through", True))
    }
    sleeping = {
        "RWS(1)": Strategy(single_particle_wake_sleep, {}), "RWS(10)": STRATEGIES["RWS(10)"]
    }  # fmt: skip
    for name, strategy in sleeping.items():
        found = drawn(of(strategy, start), draws)(jax.random.key(2), params, images)
        apart[f"{name} from zero"] = errors_apart(found, zero, draws)
    return apart


def empty_bound(tests: Canvases) -> float:
    """The ELBO of a guide that finds nothing, and has the prior's places and codes: the plateau."""
    nothing = _air_hand.NOISE, np.log1p(-np.asarray(_air_hand.PRESENT)).sum()
    squares = np.sum(np.asarray(tests.images, np.float64) ** 2, (1, 2)) / nothing[0] ** 2
    pixels = tests.images[0].size
    return float(np.mean(-0.5 * squares) - pixels * np.log(nothing[0] * np.sqrt(2 * np.pi)) + nothing[1])
