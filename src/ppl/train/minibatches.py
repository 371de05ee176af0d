"""Minibatches without replacement, drawn on the device.

The rows are read as one endless stream: a random permutation of all rows, then another, and so on.
Step `t` takes the next `batch_size` rows of it. So each row is used once in an epoch, every batch is
full, and each place in a batch holds each row with equal probability: a sum over the batch times
rows / batch_size is unbiased for the sum over all rows. A batch that reaches over the end of an epoch
goes on into the next permutation, and may then hold a row twice.

The permutation of an epoch depends on the key and the number of the epoch alone, so a run that
resumes at step `t` reads what an uninterrupted run reads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path

# Steps fold in their own number; this is the last number, which no step reaches.
ORDER = 2**32 - 1


class Cursor(NamedTuple):
    """A place in the stream of rows.

    Attributes:
        order: the permutation of the present epoch, `(rows,)` integers.
        epoch: its number.
        offset: how many of its rows have been used; less than `rows`.
    """

    order: jax.Array
    epoch: jax.Array
    offset: jax.Array


def as_rows(data: Any) -> tuple[Any, int]:
    """The data as arrays, and how many rows they have.

    Raises:
        ValueError: no array, an array without a leading axis, leading axes that differ, or no rows.
    """
    arrays = jax.tree.map(jnp.asarray, data)
    leaves = tree_leaves_with_path(arrays)
    if not leaves:
        raise ValueError("data holds no array: pass arrays with one row for each datum, or data=None.")
    shapes = ", ".join(f"data{keystr(path)} {list(leaf.shape)}" for path, leaf in leaves)
    if any(leaf.ndim == 0 for _, leaf in leaves):
        raise ValueError(f"every array of data needs a leading axis of rows, got {shapes}.")
    sizes = {leaf.shape[0] for _, leaf in leaves}
    if len(sizes) > 1:
        raise ValueError(f"the arrays of data need equal leading axes, one row for each datum; got {shapes}.")
    rows = sizes.pop()
    if rows == 0:
        raise ValueError(f"data has no rows: {shapes}. For an objective without data pass data=None.")
    return arrays, rows


def _permutation(key: jax.Array, epoch: Any, rows: int) -> jax.Array:
    return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, ORDER), epoch), rows)


def cursor_at(key: jax.Array, step: int, rows: int, batch_size: int) -> Cursor:
    """The place in the stream before step `step`; Python integers, as their product may be large."""
    epoch, offset = divmod(step * batch_size, rows)
    return Cursor(_permutation(key, epoch, rows), jnp.uint32(epoch), jnp.int32(offset))


def next_rows(key: jax.Array, cursor: Cursor, batch_size: int) -> tuple[jax.Array, Cursor]:
    """The numbers of the next `batch_size` rows, and the place after them. Needs batch_size <= rows."""
    rows = cursor.order.shape[0]
    end = cursor.offset + batch_size

    def within() -> tuple[jax.Array, Cursor]:
        chosen = jax.lax.dynamic_slice_in_dim(cursor.order, cursor.offset, batch_size)
        return chosen, cursor._replace(offset=end)

    def across() -> tuple[jax.Array, Cursor]:
        following = _permutation(key, cursor.epoch + 1, rows)
        places = cursor.offset + jnp.arange(batch_size, dtype=cursor.offset.dtype)
        chosen = jnp.where(places < rows, cursor.order[places % rows], following[places % rows])
        return chosen, Cursor(following, cursor.epoch + 1, end - rows)

    return jax.lax.cond(end < rows, within, across)


def take(data: Any, chosen: jax.Array) -> Any:
    """The chosen rows of every array."""
    return jax.tree.map(lambda array: array[chosen], data)
