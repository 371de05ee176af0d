"""Measures with estimated densities whose every draw can be enumerated, and what must hold of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from ppl.infer import Importance

TRUE = jnp.array(True)
A = 0.4


@ppl.gen
def coin_pair(a):
    u = ppl.flip(a) @ "u"
    v = ppl.flip(jnp.where(u, 0.9, 0.3)) @ "v"
    return ppl.flip(jnp.where(u & v, 0.8, 0.25)) @ "x"


@ppl.gen
def coin(a):
    u = ppl.flip(a) @ "u"
    return ppl.flip(jnp.where(u, 0.8, 0.25)) @ "x"


def hidden_coin(a, particles=2):
    return ppl.marginal(coin(a), ["x"], particles=particles)


@ppl.gen
def guess_pair(x):
    ppl.flip(jnp.where(x, 0.6, 0.35)) @ "u"
    ppl.flip(0.55) @ "v"


@ppl.gen
def guess(p):
    ppl.flip(p) @ "u"


@ppl.gen
def guess_v(u):
    ppl.flip(jnp.where(u, 0.7, 0.2)) @ "v"


@ppl.gen
def nested(a):
    kept = hidden_coin(a) @ "m"
    ppl.flip(jnp.where(kept["x"], 0.7, 0.2)) @ "y"


@ppl.gen
def inlined(a):
    """A recorded choice at the address of a hidden one."""
    kept = hidden_coin(a) @ ()
    ppl.flip(jnp.where(kept["x"], 0.7, 0.2)) @ "u"


@ppl.gen
def twice(a):
    first = hidden_coin(a) @ "one"
    hidden_coin(jnp.where(first["x"], 0.7, 0.2)) @ "two"


@ppl.gen
def deeper(a):
    nested(a) @ "sub"


@ppl.gen
def lanes(a):
    kept = jax.vmap(lambda b: hidden_coin(b) @ "m")(jnp.array([a, 0.6]))
    ppl.flip(jnp.where(kept["x"].all(), 0.7, 0.2)) @ "y"


@ppl.gen
def own_lanes(a):
    """Kept choices that have lanes of their own."""

    @ppl.gen
    def many():
        u = ppl.flip(a) @ "u"
        jax.vmap(lambda p: ppl.flip(jnp.where(u, p, 0.25)) @ "x")(jnp.array([0.8, 0.4]))

    jax.vmap(lambda _: ppl.marginal(many(), "x") @ "m")(jnp.arange(1))


@ppl.gen
def steps(a):
    def step(state, _):
        kept = hidden_coin(jnp.where(state, a, 0.3)) @ "m"
        return kept["x"], None

    jax.lax.scan(step, TRUE, None, length=2)


@ppl.gen
def mapped_steps(a):
    def chain(b):
        def step(state, _):
            return (hidden_coin(jnp.where(state, b, 0.3), 1) @ "m")["x"], None

        return jax.lax.scan(step, TRUE, None, length=2)[0]

    jax.vmap(chain)(jnp.array([a, 0.8]))


@ppl.gen
def branches(a):
    heads = ppl.flip(a) @ "c"
    jax.lax.cond(heads, lambda: (hidden_coin(a) @ "m")["x"], lambda: (hidden_coin(0.9, 1) @ "m")["x"])


@ppl.gen
def mapped_branches(a):
    heads = ppl.flip(a) @ "c"
    both = jnp.stack([heads, ~heads])
    jax.vmap(
        lambda c: jax.lax.cond(
            c, lambda: (hidden_coin(a) @ "m")["x"], lambda: (hidden_coin(0.9, 1) @ "m")["x"]
        )
    )(both)


@ppl.gen
def observed_part(a):
    w = ppl.flip(a) @ "w"
    hidden_coin(jnp.where(w, a, 0.2)) @ "m"


@ppl.gen
def only_nested(a):
    hidden_coin(a) @ "m"


@ppl.gen
def hidden_w(a):
    @ppl.gen
    def either():
        ppl.flip(jnp.where(ppl.flip(a) @ "h", 0.9, 0.35)) @ "w"

    ppl.marginal(either(), ["w"], particles=2) @ ()


def posterior(particles, proposal=None):
    return lambda a: ppl.normalize(coin(a).condition({"x": TRUE}), Importance(particles, proposal))


def pair_posterior(a, particles=2):
    return ppl.normalize(coin_pair(a).condition({"x": TRUE}), Importance(particles))


MEASURES: dict[str, Callable[[Any], ppl.Measure]] = {
    "marginal, 1 particle": lambda a: ppl.marginal(coin_pair(a), ["x"]),
    "marginal, 3 particles": lambda a: ppl.marginal(coin_pair(a), ["x"], particles=3),
    "marginal, a proposal": lambda a: ppl.marginal(
        coin_pair(a), ["x"], lambda kept: guess_pair(kept["x"]), 2
    ),
    "marginal, a measure proposes": lambda a: ppl.marginal(coin(a), ["x"], guess(0.35), 3),
    "marginal of two": lambda a: ppl.marginal(coin_pair(a), ["u", "x"], particles=2),
    "marginal of all": lambda a: ppl.marginal(coin(a), ["u", "x"], particles=2),
    "posterior, 1 particle": posterior(1),
    "posterior, 2 particles": posterior(2),
    "posterior, 3 particles": posterior(3),
    "posterior, a proposal": posterior(2, guess(0.35)),
    "posterior of nothing": lambda a: ppl.normalize(coin(a), Importance(2)),
    "nested": nested,
    "inlined": inlined,
    "twice": twice,
    "deeper": deeper,
    "lanes": lanes,
    "own lanes": own_lanes,
    "steps": steps,
    "steps in lanes": mapped_steps,
    "branches": branches,
    "branches in lanes": mapped_branches,
    "marginal of a nested one": lambda a: ppl.marginal(nested(a), ["y"], particles=2),
    "marginal over a nested one": lambda a: ppl.marginal(observed_part(a), ["m"], particles=2),
    "posterior given a nested one": lambda a: ppl.normalize(
        observed_part(a).condition({"m": {"x": TRUE}}), Importance(2)
    ),
    "posterior of a nested one": lambda a: ppl.normalize(nested(a).condition({"y": TRUE}), Importance(2)),
    "a nested one proposes": lambda a: ppl.normalize(
        nested(a).condition({"y": TRUE}), Importance(2, only_nested(0.3))
    ),
    "a marginal proposes for a nested one": lambda a: ppl.marginal(
        observed_part(a), ["m"], lambda kept: hidden_w(0.4), 2
    ),
    "posterior of a posterior": lambda a: ppl.normalize(pair_posterior(a), Importance(2)),
    "marginal of a posterior": lambda a: ppl.marginal(
        pair_posterior(a), ["u"], lambda kept: guess_v(kept["u"]), 2
    ),
}


class Laws(NamedTuple):
    """For each value that a measure may draw, exactly.

    Attributes:
        probability: of the value.
        reciprocal: `E[1 / w]` where the value is drawn, which is one where it can be.
        density: `E[w]` where the value is given, which is its probability.
    """

    probability: np.ndarray
    reciprocal: np.ndarray
    density: np.ndarray


def laws_of(make: Callable[[Any], ppl.Measure], a: float = A) -> tuple[list[Any], Laws]:
    """Every value, and what holds of it."""
    shapes = jax.eval_shape(lambda: make(a).simulate(jax.random.key(0)).choices)
    leaves, tree = jax.tree.flatten(shapes)
    size = sum(leaf.size for leaf in leaves)
    rows = jnp.asarray(np.indices((2,) * size).reshape(size, -1).T.astype(bool))

    def value(row: Any) -> Any:
        ends = np.cumsum([leaf.size for leaf in leaves])
        parts = [
            row[end - leaf.size : end].reshape(leaf.shape) for leaf, end in zip(leaves, ends, strict=True)
        ]
        return jax.tree.unflatten(tree, parts)

    def hit(choices: Any, row: Any) -> Any:
        same = jax.tree.map(lambda x, y: jnp.all(x == y), choices, value(row))
        return jnp.all(jnp.stack(jax.tree.leaves(same)))

    @ppl.expectation
    def probability(a, row):
        return jnp.where(hit(make(a).propose().choices, row), 1.0, 0.0)

    @ppl.expectation
    def reciprocal(a, row):
        trace = make(a).propose()
        return jnp.where(hit(trace.choices, row), jnp.exp(-trace.log_density), 0.0)

    @ppl.expectation
    def density(a, row):
        return jnp.exp(make(a).log_density(value(row)))

    @jax.jit
    def all_of_them(rows: Any) -> Any:
        return [
            jax.vmap(lambda row, of=of: of.exact(a, row))(rows) for of in (probability, reciprocal, density)
        ]

    return [value(row) for row in rows], Laws(*map(np.asarray, all_of_them(rows)))
