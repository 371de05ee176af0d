"""What is compared when an estimator is checked: a value, and derivatives along directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppl.derived import is_float, moving_arrays
from ppl.expectation import Expectation
from ppl.transforms.stage import Arguments, Staged, split

COORDINATES = 16
"""How many parameters get a direction each; of more, random directions only are looked at."""


class Point(NamedTuple):
    """An objective at its arguments, in double precision.

    Attributes:
        objective: the objective.
        parts: its arguments.
        moving: which arrays among them are differentiated.
        argnums: of which arguments they are.
        names: of the scalar parameters.
        directions: unit vectors, one row each.
        labels: of the directions.
    """

    objective: Expectation
    parts: Arguments
    moving: list[bool]
    argnums: Any
    names: list[str]
    directions: np.ndarray
    labels: list[str]

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments."""
        return self.parts.rebuild(list(self.parts.arrays))[0]

    def staged(self) -> Staged:
        """The program."""
        return self.objective.stage(*self.args)

    def moved(self, steps: np.ndarray) -> list[np.ndarray]:
        """The arrays at several points: with a leading axis, moved by each row of `steps`."""
        found, start = [], 0
        for array, move in zip(self.parts.arrays, self.moving, strict=True):
            x = np.broadcast_to(np.asarray(array), (len(steps), *np.shape(array)))
            if move:
                size = int(np.size(array))
                x = x + steps[:, start : start + size].reshape(x.shape)
                start += size
            found.append(x)
        return found

    def scales(self) -> np.ndarray:
        """How large each parameter is."""
        flat = [np.ravel(x) for x, move in zip(self.parts.arrays, self.moving, strict=True) if move]
        return np.concatenate(flat).astype(float) if flat else np.zeros(0)


def in_double(tree: Any) -> Any:
    """The same with floats in double precision; call it where that is enabled."""

    def convert(leaf: Any) -> Any:
        array = isinstance(leaf, (jax.Array, np.ndarray, np.generic, float))
        return jnp.asarray(leaf, jnp.float64) if array and is_float(leaf) else leaf

    return jax.tree.map(convert, tree)


def point(objective: Expectation, args: Sequence[Any], argnums: Any, random: int, key: jax.Array) -> Point:
    """The objective at arguments, and the directions that are looked along."""
    double = in_double(tuple(args))
    parts, moving = moving_arrays(objective, double, argnums)
    names = _names(tuple(args), moving)
    size = len(names)
    rows = [np.eye(size)] if size <= COORDINATES else []
    labels = list(names) if size <= COORDINATES else []
    if size > 1:
        more = np.asarray(jax.random.normal(key, (random, size), jnp.float64))
        rows.append(more / np.linalg.norm(more, axis=1, keepdims=True))
        labels += [f"random direction {number + 1}" for number in range(random)]
    directions = np.concatenate(rows) if rows else np.zeros((0, size))
    return Point(objective, parts, moving, argnums, names, directions, labels)


def _names(args: tuple[Any, ...], moving: list[bool]) -> list[str]:
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(args):
        if not split(leaf, floats=True).arrays:
            continue
        path = path if len(args) > 1 else path[1:]
        base = jax.tree_util.keystr(path) if path else ""
        for index in np.ndindex(*np.shape(leaf)):
            names.append((base + (str(list(index)) if index else "")) or "argument")
    sizes = [int(np.size(x)) for x in split((args, {}), floats=True).arrays]
    keep = np.repeat(moving, sizes)
    return [name for name, here in zip(names, keep, strict=True) if here]


def labels(at: Point, order: int) -> list[str]:
    """The name of each quantity of `estimator`."""
    first = ["value", *(f"d/d {label}" for label in at.labels)]
    second = [f"second, {label}" for label in at.labels] if order > 1 else []
    return first + second


def estimator(at: Point, order: int, num_samples: int) -> Any:
    """The quantities of one run, as a function of a key and the arrays."""

    def quantities(key: jax.Array, *arrays: Any) -> jax.Array:
        args = at.parts.rebuild(list(arrays))[0]
        options = {"argnums": at.argnums, "num_samples": num_samples}
        value, gradient = at.objective.value_and_grad(key, *args, **options)
        flat = _flat(gradient)
        found = [value[None], at.directions @ flat]
        if order > 1:
            found.append(_curvatures(at, key, arrays, num_samples))
        return jnp.concatenate(found)

    return quantities


def _flat(tree: Any) -> jax.Array:
    leaves = [jnp.ravel(x) for x in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)


def _curvatures(at: Point, key: jax.Array, arrays: Sequence[Any], num_samples: int) -> jax.Array:
    """The second derivative of the surrogate along each direction."""
    sizes = [int(np.size(x)) for x, move in zip(arrays, at.moving, strict=True) if move]

    def along(direction: Any) -> jax.Array:
        parts = iter(jnp.split(direction, np.cumsum(sizes)[:-1]) if sizes else [])
        steps = [next(parts).reshape(jnp.shape(x)) if move else None
                 for x, move in zip(arrays, at.moving, strict=True)]  # fmt: skip

        def value(t: Any) -> jax.Array:
            moved = [x if step is None else x + t * step for x, step in zip(arrays, steps, strict=True)]
            return at.objective.surrogate(key, *at.parts.rebuild(moved)[0], num_samples=num_samples)

        return jax.jvp(jax.grad(value), (0.0,), (1.0,))[1]

    return jnp.stack([along(jnp.asarray(direction)) for direction in at.directions])
