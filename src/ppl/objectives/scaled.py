"""A sum over all data, from some of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def scaled(term: Callable[[Any], jax.Array], batch: Any, total: int) -> jax.Array:
    """`M / m` times the sum of a term over the `m` rows of a batch: the sum over all `M`, without bias.

    That holds, for value and derivative, where every row is equally likely to be in the batch. For latents of
    each datum: the term is an objective of one datum (`ppl.elbo`, or `ppl.iwelbo`, of a bound for each), and
    has its sense, to be maximized or minimized. What belongs to all rows, such as a prior of global latents,
    is added outside, once; for a likelihood of global latents see `ppl.objectives.tempered`.

    Args:
        term: of one row, a scalar. It is mapped by `jax.vmap`, so that its choices are drawn for each row.
        batch: an array, or a pytree of them, with rows along the first axis. `m` is its length.
        total: `M`, a Python integer.

    Returns:
        One draw, a scalar.

    Raises:
        TypeError: `total` is not an integer; the term is not a scalar.
        ValueError: arrays of different lengths, without rows, or with more than `total` of them.

    Example:
        >>> import jax, jax.numpy as jnp, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> guide = ppl.gen(lambda slope, y: ppl.normal(slope * y, 0.5**0.5) @ "x")
        >>> def objective(slope, batch):
        ...     one = lambda y: ppl.elbo(model().condition({"y": y}), guide(slope, y))
        ...     return ppl.objectives.scaled(one, batch, total=4)
        >>> rows = jnp.array([0.3, 1.2])
        >>> ppl.expectation(objective).estimate(jax.random.key(0), 0.5, rows).round(3).item()  # q is exact
        -5.827

    Reference: Hoffman, Blei, Wang, Paisley, "Stochastic variational inference", 2013, section 2.4.
    """
    if isinstance(total, bool) or not hasattr(total, "__index__"):
        raise TypeError(f"scaled: the number of rows of all data is a Python integer, got {total!r}")
    rows = _rows(batch)
    if rows > total:
        raise ValueError(
            f"scaled: a batch of {rows} rows out of {total}. `total` is the number of rows of all data."
        )
    terms = jax.vmap(term)(batch)
    if jnp.shape(terms) != (rows,):
        raise TypeError(f"scaled: the term of one row is a scalar, got shape {jnp.shape(terms)[1:]}")
    return total / rows * jnp.sum(terms)


def _rows(batch: Any) -> int:
    shapes = [jnp.shape(array) for array in jax.tree.leaves(batch)]
    lengths = {shape[0] if shape else None for shape in shapes}
    length = next(iter(lengths), None)
    if len(lengths) != 1 or not length:
        raise ValueError(
            "scaled: every array of a batch has the same number of rows, one or more, along its first axis; "
            f"got shapes {', '.join(map(str, shapes)) or 'of no array'}."
        )
    return length
