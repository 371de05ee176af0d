"""Worlds: assignments of nodes to the noise so far, each with its weight; and how a draw splits them."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from .evaluate import is_key
from .rules import Rule, support_probabilities

MOST_WORLDS = 2**17
_NEGLIGIBLE = 1e-22  # the least probability of a world
_TIE = 1e-14  # two quantiles that are closer are one, up to rounding

NO_KEY: Any = object()
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
        return (
            array
            if isinstance(value, PerWorld)
            else np.broadcast_to(array, (len(self.weights), *array.shape))
        )

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


def draw_noise(values: list[Any], params: Any, worlds: Worlds) -> Any:
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
