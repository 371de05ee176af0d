"""The exact expectation of an estimator over its own noise.

A derived program draws from `ppl.noise.noise_p` alone. The walk through its jaxpr splits the *world* at every
draw: a world is one assignment of nodes to the noise so far, with its weight. Draws of a normal or a uniform
law become the nodes of a quadrature rule, those of a discrete law the values of their support. What comes out
is E[G], to rounding, where Monte Carlo would give G.

Noise is keyed by its concrete key (keys never depend on noise): two draws from one key are one node, so a
key that is used twice changes the result. Draws of a discrete law from one key under different
parameters (a run and its replaced runs) are coupled by the quantile of one latent uniform number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.interpreters import partial_eval

from ppl.noise import noise_p
from ppl.testing.breaks import Breaks
from ppl.testing.evaluate import is_key
from ppl.testing.rules import RULES, Adaptive, Rule, support_probabilities
from ppl.testing.walk import NotWalkable, walk
from ppl.testing.worlds import NO_KEY, KeyCases, KeyRows, PerWorld, Worlds
from ppl.transforms import jax_internals as internals

_TIE = 1e-14  # two quantiles that are closer are one, up to rounding
_PASSES = 8
_MASS = 1e-6  # what the weights of a rule may be off


class Integral(NamedTuple):
    """Exact means of the outputs, in the structure of the function.

    Attributes:
        mean: of each output.
        draws: how many numbers were drawn.
        worlds: how many assignments there are.
    """

    mean: Any
    draws: int
    worlds: int


def integrate(
    function: Callable[..., Any], *arguments: Any, rules: dict[str, Rule] | None = None
) -> Integral:
    """The expected value of `function(*arguments)`, whose arguments are keys and arrays, over its noise.

    Where the function jumps or bends in a number of noise is found by walking it again; see
    `ppl.testing.breaks`.

    Args:
        function: uses no randomness but `noise_p`.
        arguments: concrete.
        rules: nodes and weights by the name of a law, in place of the ones in `ppl.testing.rules`.
    """
    closed, tree = jaxpr_of(function, *arguments)
    return over_noise(closed, tree, arguments, Breaks(), 1, rules)[0]


def jaxpr_of(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """The jaxpr of a function of keys and arrays without its dead code, and the structure of its output."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    return _without_dead_code(closed), jax.tree.structure(shape)


def over_noise(
    closed: Any, tree: Any, arguments: Any, breaks: Breaks, level: int, rules: Any = None
) -> tuple[Integral, Breaks]:
    """The integral of a jaxpr at one level of refinement, and the breaks that it took."""
    for _ in range(_PASSES):
        worlds = Worlds(RULES | (rules or {}), breaks, level)
        outputs = walk(closed, jax.tree.leaves(arguments), worlds, {noise_p: draw_noise})
        following = breaks.next()
        if following is None or breaks.unresolved:
            break
        breaks = following
    outputs = [
        x if is_key(aval) else worlds.settled(x) for x, aval in zip(outputs, closed.out_avals, strict=True)
    ]
    if any(x is NO_KEY or isinstance(x, KeyCases | KeyRows) for x in outputs):
        raise NotWalkable("a key reaches the result")
    if abs(worlds.weights.sum() - 1) > _MASS:
        raise NotWalkable(f"the weights of its noise add up to {worlds.weights.sum():.6g}")
    means = [worlds.mean(x) for x in outputs]
    return Integral(jax.tree.unflatten(tree, means), worlds.draws, len(worlds.weights)), breaks


def _without_dead_code(closed: Any) -> Any:
    opened, consts = internals.without_consts(closed)
    live, used = partial_eval.dce_jaxpr(opened, [True] * len(opened.outvars), instantiate=True)
    assert all(used)
    return live.replace(
        constvars=live.invars[: len(consts)], invars=live.invars[len(consts) :], consts=consts,
        debug_info=live.debug_info.with_unknown_names(),
    )  # fmt: skip


def draw_noise(equation: Any, values: list[Any], worlds: Worlds) -> list[Any]:
    """A block of noise, one number after the other."""
    params = equation.params
    key, _, *parameters = values
    key, parameters = worlds.one_key(key), [worlds.settled(p) for p in parameters]
    if not is_key(key):
        raise NotWalkable("noise is drawn from a key that depends on noise")
    law, shape, outer = params["law"], params["shape"], key.shape[: params["keys"]]
    data = np.asarray(jax.random.key_data(key)).reshape(math.prod(outer), -1)
    columns: list[PerWorld] = []
    memo: dict[Any, PerWorld] = {}
    for row, outer_index in enumerate(np.ndindex(*outer)):
        for index in np.ndindex(*shape):
            name = (law.name, data[row].tobytes(), index)
            worlds.claim(data[row].tobytes(), (law.name, shape))
            entries = [_entry(p, (*outer_index, *index), worlds) for p in parameters]
            columns.append(_draw(name, law.name, entries, memo, worlds))
    full = (*outer, *shape)
    stacked = np.stack([worlds.read(column) for column in columns], axis=-1) if columns else np.zeros((1, 0))
    count = len(worlds.weights)
    stacked = np.broadcast_to(stacked, (count, stacked.shape[-1]))
    return [worlds.wrap(stacked.reshape((count, *full)).astype(params["dtype"]))]


def _entry(parameter: Any, index: tuple[int, ...], worlds: Worlds) -> PerWorld:
    array = np.asarray(worlds.read(parameter))
    lead = int(isinstance(parameter, PerWorld))
    index = tuple(i if size > 1 else 0 for i, size in zip(index, array.shape[lead:], strict=False))
    if lead:
        return worlds.wrap(array[(slice(None), *index)])
    entry = array[index]
    return worlds.wrap(np.broadcast_to(entry, (len(worlds.weights), *entry.shape)))


def _draw(
    name: Any, law: str, entries: list[PerWorld], memo: dict[Any, PerWorld], worlds: Worlds
) -> PerWorld:
    """One number: the node of its key, carried to the law's parameters."""
    now = [worlds.read(e) for e in entries]
    same = (name, *(e.tobytes() for e in now)), len(worlds.parents)
    if same[0] in memo and memo[same[0]].generation <= same[1]:
        return memo[same[0]]
    if law in worlds.rules:
        value = _continuous(name, worlds.rules[law], now, worlds)
    else:
        try:
            probabilities = support_probabilities(law, now)
        except KeyError:
            raise NotWalkable(f"draws of the law {law!r}") from None
        value = _discrete(name, probabilities, worlds)
    memo[(name, *(worlds.read(e).tobytes() for e in entries))] = value
    return value


def _continuous(name: Any, rule: Rule | Adaptive, parameters: list[np.ndarray], worlds: Worlds) -> PerWorld:
    if name not in worlds.latent:
        worlds.draws += 1
        count, coordinate = len(worlds.weights), lambda node: node
        if isinstance(rule, Adaptive):
            nodes, weights = rule.at(worlds.breaks.of(name, count), count, worlds.level)
            coordinate = rule.coordinate[0]
        else:
            nodes, weights = (np.broadcast_to(x, (count, len(x))) for x in (rule.nodes, rule.weights))
        with np.errstate(divide="ignore"):  # an end has no coordinate, and no weight
            part = worlds.split(weights, name, coordinate(nodes))
        parent = worlds.parents[-1]
        worlds.latent[name] = worlds.wrap(nodes[parent, part])
        parameters = [p[parent] for p in parameters]
    return worlds.wrap(rule.transform(worlds.read(worlds.latent[name]), *parameters))


def _discrete(name: Any, probabilities: np.ndarray, worlds: Worlds) -> PerWorld:
    """Values 0, 1, ... of these probabilities; narrows the interval of the latent quantile."""
    count = len(worlds.weights)
    # In a branch that a world does not take parameters may be anything: nothing is learned of the quantile.
    proper = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < _MASS)
    senseless = ~proper[:, None]
    probabilities = np.where(senseless, np.arange(probabilities.shape[1]) == 0, probabilities)
    ends = np.concatenate([np.zeros((count, 1)), np.cumsum(probabilities, axis=1)], axis=1)
    ends[:, -1] = 1.0
    if name not in worlds.latent:
        worlds.draws += 1
        low, high = np.zeros((count, 1)), np.ones((count, 1))
        lows, highs, shares = ends[:, :-1], ends[:, 1:], probabilities
    else:
        low, high = (worlds.read(end)[:, None] for end in worlds.latent[name])
        lows, highs = np.maximum(low, ends[:, :-1]), np.minimum(high, ends[:, 1:])
        widths = highs - lows
        shares = np.where(widths > _TIE, widths / np.maximum(high - low, _TIE), 0)
        # A part that is too narrow to be cut falls to one value as a whole.
        narrow = high - low <= 4 * _TIE
        middle = np.argmax(ends[:, 1:] >= (low + high) / 2, axis=1)[:, None]
        shares = np.where(narrow, np.arange(shares.shape[1]) == middle, shares)
    if senseless.any():
        shares = np.where(senseless, np.arange(shares.shape[1]) == 0, shares)
        lows, highs = (np.where(senseless, end, x) for end, x in ((low, lows), (high, highs)))
    values = worlds.split(shares)
    parent = worlds.parents[-1]
    worlds.latent[name] = (worlds.wrap(lows[parent, values]), worlds.wrap(highs[parent, values]))
    return worlds.wrap(values)
