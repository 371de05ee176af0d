"""The exact expectation of an estimator over its own noise.

A derived program draws from `ppl.noise.noise_p` alone. This interpreter walks its jaxpr and splits the
*world* at every draw: a world is one assignment of nodes to the noise so far, with its weight. Draws of a
normal or a uniform law become the nodes of a quadrature rule, those of a discrete law the values of their
support. What comes out is E[G], to rounding, where Monte Carlo would give G.

Noise is keyed by its concrete key (keys never depend on noise): two draws from one key are one node, so a
key that is used twice changes the result. Draws of a discrete law from one key under different
parameters (a run and its replaced runs) are coupled by the quantile of one latent uniform number.

Loops that hold noise are unrolled; of a conditional that holds noise every branch is walked, and each world
keeps its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal
from .evaluate import apply, is_key
from jax.interpreters import partial_eval
from .rules import RULES, Rule, support_probabilities

from ppl.noise import noise_p
from ppl.transforms import jax_internals as internals

MOST_WORLDS = 2**17
_NEGLIGIBLE = 1e-22  # the least probability of a world
_TIE = 1e-14  # two quantiles that are closer are one, up to rounding


class Integral(NamedTuple):
    """Exact means of the outputs, in the structure of the function; and how many numbers were drawn."""

    mean: Any
    draws: int
    worlds: int


def integrate(function: Callable[..., Any], *arguments: Any, rules: dict[str, Rule] | None = None) -> Integral:
    """The expected value of `function(*arguments)`, whose arguments are keys and arrays, over its noise.

    Args:
        function: uses no randomness but `noise_p`.
        arguments: concrete.
        rules: nodes and weights by the name of a law, in place of the ones in `rules.RULES`.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    closed = _without_dead_code(closed)
    worlds = Worlds(RULES | (rules or {}))
    outputs = _walk(closed, jax.tree.leaves(arguments), worlds)
    means = [worlds.mean(x) for x in outputs]
    return Integral(jax.tree.unflatten(jax.tree.structure(shape), means), worlds.draws, len(worlds.weights))


def _without_dead_code(closed: Any) -> Any:
    opened, consts = internals.without_consts(closed)
    live, used = partial_eval.dce_jaxpr(opened, [True] * len(opened.outvars), instantiate=True)
    assert all(used)
    return live.replace(
        constvars=live.invars[: len(consts)], invars=live.invars[len(consts) :], consts=consts,
        debug_info=live.debug_info.with_unknown_names(),
    )  # fmt: skip


_NO_KEY: Any = object()
"""In place of a key that differs between worlds: one that a conditional passes on, and nothing draws from."""


class PerWorld:
    """A value that differs between worlds, as it stood when there were fewer of them."""

    def __init__(self, array: Any, generation: int) -> None:
        self.array, self.generation = array, generation


class Worlds:
    """All worlds so far: their weights, and where each came from.

    Attributes:
        weights: of each world; they sum to one.
        parents: for each split, the world that each new one came from.
        latent: what is known of a number drawn from a key: a node, or the interval of its quantile.
        blocks: the law and shape that each key has drawn.
        draws: how many numbers were drawn.
    """

    def __init__(self, rules: dict[str, Rule]) -> None:
        self.rules = rules
        self.weights = np.ones(1)
        self.parents: list[np.ndarray] = []
        self.latent: dict[Any, Any] = {}
        self.blocks: dict[bytes, Any] = {}
        self.draws = 0

    def claim(self, key: bytes, block: Any) -> None:
        """Refuse a key from which blocks of two kinds are drawn: they would depend on each other."""
        first = self.blocks.setdefault(key, block)
        assert first == block, f"one key draws two blocks of noise, {first} and {block}"

    def read(self, value: Any) -> Any:
        """A value for the worlds there are now: with a leading axis if it differs between them."""
        if not isinstance(value, PerWorld):
            return value
        for parent in self.parents[value.generation :]:
            value.array = value.array[parent]
        value.generation = len(self.parents)
        return value.array

    def full(self, value: Any) -> np.ndarray:
        """A value with one entry a world, even if they are all the same."""
        array = np.asarray(self.read(value))
        return array if isinstance(value, PerWorld) else np.broadcast_to(array, (len(self.weights), *array.shape))

    def wrap(self, array: Any) -> PerWorld:
        """An array with one entry a world as a value."""
        return PerWorld(array, len(self.parents))

    def split(self, shares: np.ndarray) -> np.ndarray:
        """Split every world; `shares[w, k]` is the probability of its k-th part. Returns k of each."""
        weights = self.weights[:, None] * shares
        parent, part = np.nonzero(weights > _NEGLIGIBLE)
        if len(parent) > MOST_WORLDS:
            raise RuntimeError(f"{len(parent)} worlds, more than {MOST_WORLDS}: use a smaller program")
        self.weights = weights[parent, part]
        self.parents.append(parent)
        return part

    def mean(self, value: Any) -> np.ndarray:
        """The expected value."""
        array = np.asarray(self.read(value))
        return np.tensordot(self.weights, array, 1) if isinstance(value, PerWorld) else array


def _holds_noise(jaxpr: Any) -> bool:
    return internals.holds(jaxpr, frozenset({noise_p}))


def _walk(jaxpr: Any, arguments: Sequence[Any], worlds: Worlds) -> list[Any]:
    environment: dict[Any, Any] = dict(zip(jaxpr.constvars, jaxpr.consts, strict=True))
    environment.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else environment[atom]

    for equation in jaxpr.eqns:
        outputs = _equation(equation, [read(v) for v in equation.invars], worlds)
        environment.update(zip(equation.outvars, outputs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _equation(equation: Any, values: list[Any], worlds: Worlds) -> list[Any]:
    primitive, params = equation.primitive, equation.params
    if primitive is noise_p:
        return [_noise(values, params, worlds)]
    if primitive in internals.CALLS:
        return _walk(params[internals.CALLS[primitive]], values, worlds)
    if primitive is internals.REMAT:
        return _walk(params["jaxpr"], values, worlds)
    if primitive is internals.SCAN:
        return _scan(params, values, worlds)
    if primitive is internals.COND:
        return _cond(params["branches"], values[0], values[1:], worlds)
    if primitive is internals.WHILE and any(map(_holds_noise, internals.nested(equation))):
        return _while(params, values, worlds)
    if any(map(_holds_noise, internals.nested(equation))):
        raise NotImplementedError(f"noise inside {primitive}")
    if any(map(is_key, (v.aval for v in equation.outvars))) and any(isinstance(x, PerWorld) for x in values):
        # A mapped conditional selects between a key and itself.
        alike = primitive.name == "select_n" and _alike(values[1:])
        return [values[1] if alike else _NO_KEY] * len(equation.outvars)
    mapped = [isinstance(x, PerWorld) for x in values]
    outputs = apply(equation, [worlds.read(x) for x in values], mapped)
    return [worlds.wrap(x) for x in outputs] if any(mapped) else outputs


def _scan(params: Any, values: list[Any], worlds: Worlds) -> list[Any]:
    scan = internals.scan_parts(params, values)
    carry, columns = scan.carry, []
    for step in reversed(range(scan.length)) if scan.reverse else range(scan.length):
        xs = [worlds.wrap(worlds.read(x)[:, step]) if isinstance(x, PerWorld) else x[step] for x in scan.xs]
        outputs = _walk(scan.body, [*scan.consts, *carry, *xs], worlds)
        carry, ys = outputs[: len(carry)], outputs[len(carry) :]
        columns.append(ys)
    if scan.reverse:
        columns.reverse()
    avals = scan.body.out_avals[len(carry) :]
    return [*carry, *(_stack([ys[i] for ys in columns], aval, worlds) for i, aval in enumerate(avals))]


def _stack(values: list[Any], aval: Any, worlds: Worlds) -> Any:
    if not values:
        return np.zeros((0, *aval.shape), aval.dtype)
    if not any(isinstance(x, PerWorld) for x in values):
        return np.stack([np.asarray(x) for x in values])
    return worlds.wrap(np.stack([worlds.full(x) for x in values], axis=1))


def _choose(picks: Any, cases: list[Any], worlds: Worlds) -> Any:
    """In each world, the case that `picks` says.

    Keys reach here as residuals of a branch, which nothing draws from again: see the assertion in `_noise`.
    """
    if any(is_key(x) or x is _NO_KEY for x in cases):
        return cases[0] if _alike(cases) else _NO_KEY
    full = np.stack([worlds.full(x) for x in cases], axis=1)
    return worlds.wrap(full[np.arange(len(full)), picks])


def _alike(keys: list[Any]) -> bool:
    if not all(map(is_key, keys)):
        return False
    data = [np.asarray(jax.random.key_data(key)) for key in keys]
    return all(np.array_equal(x, data[0]) for x in data)


def _cond(branches: Any, index: Any, operands: list[Any], worlds: Worlds) -> list[Any]:
    if not isinstance(index, PerWorld):
        return _walk(branches[int(np.clip(int(index), 0, len(branches) - 1))], operands, worlds)
    outputs = [_walk(branch, operands, worlds) for branch in branches]
    picks = np.clip(worlds.read(index).astype(int), 0, len(branches) - 1)
    return [_choose(picks, list(cases), worlds) for cases in zip(*outputs, strict=True)]


def _while(params: Any, values: list[Any], worlds: Worlds) -> list[Any]:
    loop = internals.while_parts(params, values)
    carry = loop.carry
    for _ in range(64):
        (going,) = _walk(loop.condition, [*loop.condition_consts, *carry], worlds)
        active = np.asarray(worlds.read(going)) if isinstance(going, PerWorld) else np.asarray([bool(going)])
        if not active.any():
            return carry
        held = [_common(x, active, worlds) for x in carry]
        new = _walk(loop.body, [*loop.body_consts, *held], worlds)
        if active.all():
            carry = new
            continue
        picks = worlds.read(going).astype(int)
        carry = [_choose(picks, [old, x], worlds) for old, x in zip(carry, new, strict=True)]
    raise RuntimeError("a loop of more than 64 steps")


def _common(x: Any, active: np.ndarray, worlds: Worlds) -> Any:
    """The value without a world axis, if it is an integer and the same wherever the loop goes on."""
    if not isinstance(x, PerWorld):
        return x
    array = np.asarray(worlds.read(x))
    alike = array.ndim == 1 and array.dtype.kind == "i" and len(np.unique(array[active])) == 1
    return array[active][0] if alike else x


def _noise(values: list[Any], params: Any, worlds: Worlds) -> Any:
    key, _, *parameters = values
    assert is_key(key), "noise is drawn from a key that depends on noise"
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
    return worlds.wrap(stacked.reshape((count, *full)).astype(params["dtype"]))


def _entry(parameter: Any, index: tuple[int, ...], worlds: Worlds) -> PerWorld:
    array = np.asarray(worlds.read(parameter))
    if isinstance(parameter, PerWorld):
        return worlds.wrap(array[(slice(None), *index)])
    entry = array[index]
    return worlds.wrap(np.broadcast_to(entry, (len(worlds.weights), *entry.shape)))


def _draw(name: Any, law: str, entries: list[PerWorld], memo: dict[Any, PerWorld], worlds: Worlds) -> PerWorld:
    """One number: the node of its key, carried to the law's parameters."""
    now = [worlds.read(e) for e in entries]
    same = (name, *(e.tobytes() for e in now)), len(worlds.parents)
    if same[0] in memo and memo[same[0]].generation <= same[1]:
        return memo[same[0]]
    if law in worlds.rules:
        value = _continuous(name, worlds.rules[law], now, worlds)
    else:
        value = _discrete(name, support_probabilities(law, now), worlds)
    memo[(name, *(worlds.read(e).tobytes() for e in entries))] = value
    return value


def _continuous(name: Any, rule: Rule, parameters: list[np.ndarray], worlds: Worlds) -> PerWorld:
    if name not in worlds.latent:
        worlds.draws += 1
        count = len(worlds.weights)
        nodes = worlds.split(np.broadcast_to(rule.weights, (count, len(rule.weights))))
        worlds.latent[name] = worlds.wrap(rule.nodes[nodes])
        parameters = [p[worlds.parents[-1]] for p in parameters]
    return worlds.wrap(rule.transform(worlds.read(worlds.latent[name]), *parameters))


def _discrete(name: Any, probabilities: np.ndarray, worlds: Worlds) -> PerWorld:
    """Values 0, 1, ... of these probabilities; narrows the interval of the latent quantile."""
    count = len(worlds.weights)
    ends = np.concatenate([np.zeros((count, 1)), np.cumsum(probabilities, axis=1)], axis=1)
    ends[:, -1] = 1.0
    if name not in worlds.latent:
        worlds.draws += 1
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
    values = worlds.split(shares)
    parent = worlds.parents[-1]
    worlds.latent[name] = (worlds.wrap(lows[parent, values]), worlds.wrap(highs[parent, values]))
    return worlds.wrap(values)
