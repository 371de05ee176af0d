"""Worlds: assignments of nodes to what has been drawn so far, each with its weight; and how they split."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ppl.testing.breaks import Breaks

MOST_WORLDS = 2**19
_NEGLIGIBLE = 1e-22  # the least weight of a world

NO_KEY: Any = object()
"""In place of a key that is not known: nothing may draw from it."""


class NotIntegrable(Exception):
    """A program's noise, or its choices, cannot be integrated over; the message says why."""


class TooManyWorlds(NotIntegrable):
    """There is too much to integrate over."""


class PerWorld:
    """A value that differs between worlds, as it stood when there were fewer of them."""

    def __init__(self, array: Any, generation: int) -> None:
        self.array, self.generation = array, generation


class KeyCases(NamedTuple):
    """A key, or a number that may become part of one: in each world that of the branch that was taken.

    Attributes:
        picks: the number of the branch.
        cases: the key of each branch.
    """

    picks: PerWorld
    cases: tuple[Any, ...]


class KeyRows(NamedTuple):
    """The keys of the steps of a loop, where they differ in more than one array of keys can say."""

    rows: tuple[Any, ...]


class Split(NamedTuple):
    """One split of every world.

    Attributes:
        name: of the number that was drawn.
        part: of each world, the number of the part that it is.
        nodes: the continuous number itself, in the variable that is cut into panels; or `None`.
    """

    name: Any
    part: PerWorld
    nodes: PerWorld | None


class Worlds:
    """All worlds so far: their weights, and where each came from.

    Attributes:
        weights: of each world. Of noise they sum to one.
        parents: for each split, the world that each new one came from.
        splits: what was split on.
        breaks: where continuous numbers jump; it watches comparisons, too.
        level: how fine the rules of quadrature are.
        latent: what is known of a number drawn from a key: a node, or the interval of its quantile.
        blocks: the law and shape that each key has drawn.
        draws: how many numbers were drawn.
    """

    def __init__(self, rules: Any = None, breaks: Breaks | None = None, level: int = 1) -> None:
        self.rules, self.level = rules or {}, level
        self.breaks = Breaks() if breaks is None else breaks
        self.weights = np.ones(1)
        self.parents: list[np.ndarray] = []
        self.splits: list[Split] = []
        self.latent: dict[Any, Any] = {}
        self.blocks: dict[bytes, Any] = {}
        self.draws = 0
        self._masks: list[Any] = []
        self._ancestors: dict[int, np.ndarray] = {}

    @contextlib.contextmanager
    def where(self, mask: Any) -> Iterator[None]:
        """Within it, what is drawn counts only in the worlds where `mask` holds."""
        self._masks.append(mask)
        try:
            yield
        finally:
            self._masks.pop()

    @property
    def active(self) -> np.ndarray | None:
        """In which worlds a draw counts; `None` for all."""
        if not self._masks:
            return None
        return np.logical_and.reduce([self.full(mask) for mask in self._masks])

    def one_key(self, key: Any) -> Any:
        """The key that is meant in all worlds where a draw counts; `NO_KEY` if that is not one."""
        while isinstance(key, KeyCases):
            picks = self.full(key.picks)
            active = self.active
            picks = np.unique(picks if active is None else picks[active])
            if len(picks) > 1:
                return NO_KEY
            key = key.cases[picks[0] if len(picks) else 0]
        return key

    def settled(self, value: Any) -> Any:
        """A value that was kept apart by the branches it is from, as one that differs between worlds."""
        if not isinstance(value, KeyCases):
            return value
        full = np.stack([self.full(self.settled(case)) for case in value.cases], axis=1)
        return self.wrap(full[np.arange(len(full)), self.full(value.picks).astype(int)])

    def claim(self, key: bytes, block: Any) -> None:
        """Refuse a key from which blocks of two kinds are drawn: they would depend on each other."""
        first = self.blocks.setdefault(key, block)
        assert first == block, f"one key draws two blocks of noise, {first} and {block}"

    def read(self, value: Any) -> Any:
        """A value for the worlds there are now: with a leading axis if it differs between them."""
        if not isinstance(value, PerWorld):
            return value
        if value.generation < len(self.parents):
            value.array = value.array[self.ancestors(value.generation)]
            value.generation = len(self.parents)
        return value.array

    def full(self, value: Any) -> np.ndarray:
        """A value with one entry a world, even if they are all the same."""
        array = np.asarray(self.read(value))
        if isinstance(value, PerWorld):
            return array
        return np.broadcast_to(array, (len(self.weights), *array.shape))

    def wrap(self, array: Any) -> PerWorld:
        """An array with one entry a world as a value."""
        return PerWorld(array, len(self.parents))

    def split(self, shares: np.ndarray, name: Any = None, nodes: np.ndarray | None = None) -> np.ndarray:
        """Split every world; returns the number of the part that each new one is.

        Args:
            shares: `shares[w, k]` is what the k-th part of world w weighs, of its weight.
            name: of the number that is drawn.
            nodes: of the same shape, the values of a continuous number.
        """
        weights = self.weights[:, None] * shares
        parent, part = np.nonzero(weights > _NEGLIGIBLE)
        if len(parent) > MOST_WORLDS:
            raise TooManyWorlds(f"{len(parent)} combinations of nodes, more than {MOST_WORLDS}")
        self.weights = weights[parent, part]
        self.parents.append(parent)
        self._ancestors.clear()
        found = None if nodes is None else self.wrap(nodes[parent, part])
        self.splits.append(Split(name, self.wrap(part), found))
        return part

    def mean(self, value: Any) -> np.ndarray:
        """The expected value."""
        array = np.asarray(self.read(value))
        return np.tensordot(self.weights, array, 1) if isinstance(value, PerWorld) else array

    def ancestors(self, generation: int) -> np.ndarray:
        """For each world now, the one that it was at an earlier generation."""
        found = self._ancestors.get(generation)
        if found is None:
            found = np.arange(len(self.weights))
            for parent in reversed(self.parents[generation:]):
                found = parent[found]
            self._ancestors[generation] = found
        return found
