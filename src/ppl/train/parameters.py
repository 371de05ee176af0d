"""Which leaves of the parameters are trained, and which only come along.

Parameters are any pytree: a dictionary of arrays, or an Equinox or Flax module, whose leaves may also
be functions, strings and integers. Inexact arrays are trained. So is a Python float that is an entry
of a dictionary, list or tuple; one that is an attribute of a module (the rate of a dropout layer) is
not, as in Equinox.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey, GetAttrKey, SequenceKey, keystr


@dataclass(frozen=True)
class Layout:
    """The structure of the parameters, apart from the arrays in it. Hashable where its constants are.

    Attributes:
        treedef: the structure of the whole.
        kinds: for each leaf "trained", "fixed" (an array that is not trained) or "constant".
        constants: the other leaves, each beside its type, so that 1, 1.0 and True stay apart.
    """

    treedef: Any
    kinds: tuple[str, ...]
    constants: tuple[tuple[type, Any], ...]

    def combine(self, trained: Any, fixed: Sequence[Any]) -> Any:
        """The parameters as the user gave them, with these arrays in them."""
        sources = {
            "trained": iter(jax.tree.leaves(trained)),
            "fixed": iter(fixed),
            "constant": (value for _, value in self.constants),
        }
        return self.treedef.unflatten([next(sources[kind]) for kind in self.kinds])

    def only_trained(self, tree: Any) -> Any:
        """A tree shaped like the parameters, with `None` for every leaf that is not trained."""
        leaves = self.treedef.flatten_up_to(tree)
        kept = [leaf if kind == "trained" else None for leaf, kind in zip(leaves, self.kinds, strict=True)]
        return self.treedef.unflatten(kept)


def partition(params: Any) -> tuple[Layout, Any, list[jax.Array]]:
    """The layout, the trained arrays (a tree with `None` elsewhere) and the fixed arrays.

    Raises:
        TypeError: nothing can be trained, or a Python integer stands where a parameter is expected.
    """
    paths, treedef = jax.tree_util.tree_flatten_with_path(params)
    kinds = tuple(_kind(params, path, leaf) for path, leaf in paths)
    groups: dict[str, list[Any]] = {"trained": [], "fixed": [], "constant": []}
    for (_, leaf), kind in zip(paths, kinds, strict=True):
        groups[kind].append(leaf)
    if not groups["trained"]:
        found = ", ".join(f"params{keystr(path)}: {_describe(leaf)}" for path, leaf in paths[:5])
        raise TypeError(
            f"fit has nothing to train: params holds no floating-point array ({found or 'no leaf at all'}). "
            "Pass arrays of floats, for example {'loc': jnp.zeros(3)}."
        )
    layout = Layout(treedef, kinds, tuple((type(leaf), leaf) for leaf in groups["constant"]))
    whole = treedef.unflatten([leaf for _, leaf in paths])
    return layout, strong(layout.only_trained(whole)), strong(groups["fixed"])


def strong(tree: Any) -> Any:
    """The same tree with an array of a strong type for each leaf, which the carry of a loop may be."""
    return jax.tree.map(_strong, tree)


def _strong(leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return leaf
    # An explicit dtype removes the weak type of a Python number, which the carry of a loop would keep.
    return jnp.array(leaf, dtype=jax.dtypes.canonicalize_dtype(jnp.result_type(leaf)))


def _kind(params: Any, path: tuple[Any, ...], leaf: Any) -> str:
    if isinstance(leaf, jax.Array | np.ndarray | np.generic):
        if np.dtype(object) == leaf.dtype:
            return "constant"
        return "trained" if jnp.issubdtype(leaf.dtype, jnp.inexact) else "fixed"
    if isinstance(leaf, bool) or not isinstance(leaf, int | float | complex) or not _is_entry(params, path):
        return "constant"
    if isinstance(leaf, int):
        raise TypeError(
            f"params{keystr(path)} is the Python integer {leaf}, which is not trained. "
            f"Write {leaf}.0 to train it; keep what is not a parameter out of params."
        )
    return "trained"


def _is_entry(params: Any, path: tuple[Any, ...]) -> bool:
    """Whether a leaf is an entry of a dictionary, list or (named) tuple, not an attribute of a module."""
    if not path or isinstance(path[-1], DictKey | SequenceKey):
        return True
    parent = params
    for part in path[:-1]:
        match part:
            case GetAttrKey():
                parent = getattr(parent, part.name)
            case DictKey():
                parent = parent[part.key]
            case SequenceKey():
                parent = parent[part.idx]
            case _:
                return False
    return isinstance(parent, tuple)


def _describe(leaf: Any) -> str:
    dtype = getattr(leaf, "dtype", None)
    return type(leaf).__name__ if dtype is None else f"{dtype}{list(leaf.shape)}"
