"""Staging: a Python function becomes a jaxpr in which every random choice is one equation."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppl.address import Address, show
from ppl.errors import DuplicateAddress, UnsupportedProgram
from ppl.inner import expect_p
from ppl.source import equation_line
from ppl.transforms import batching as _batching  # noqa: F401  (installs the rules for mapped control flow)
from ppl.transforms import jax_internals as internals
from ppl.transforms.occurrences import Occurrence, occurrences

_FRAMES = 8_000
"""How deep the Python stack may grow while a program is staged."""


class Arguments(NamedTuple):
    """Arguments split into arrays, which are traced, and everything else, which is not."""

    arrays: list[Any]
    tree: Any
    static: tuple[Any, ...]

    @staticmethod
    def is_array(static: Any) -> bool:
        """Whether an entry of `static` stands for an array."""
        return static is _ARRAY

    def rebuild(self, arrays: list[Any]) -> Any:
        """The arguments with other arrays in place."""
        remaining = iter(arrays)
        return jax.tree.unflatten(self.tree, [next(remaining) if s is _ARRAY else s for s in self.static])


class _Array:
    def __repr__(self) -> str:
        return "array"


_ARRAY = _Array()


def split(arguments: Any, *, floats: bool = False) -> Arguments:
    """Split a pytree of arguments; with `floats`, Python floats count as arrays too.

    Python integers, Booleans, strings and functions stay what they are, so that a program may loop over
    `range(n)` or branch on a flag.
    """
    leaves, tree = jax.tree.flatten(arguments)

    def is_array(leaf: Any) -> bool:
        return isinstance(leaf, (jax.Array, np.ndarray, np.generic)) or (
            floats and isinstance(leaf, (float, complex))
        )

    arrays = [leaf for leaf in leaves if is_array(leaf)]
    return Arguments(arrays, tree, tuple(_ARRAY if is_array(leaf) else leaf for leaf in leaves))


class Staged(NamedTuple):
    """A staged program.

    Attributes:
        jaxpr: the closed jaxpr.
        arrays: its inputs.
        tree: the structure of what the program returns.
        choices: its recorded choices by address; two that exclude each other share one.
        unrecorded: all other choices.
    """

    jaxpr: Any
    arrays: list[Any]
    tree: Any
    choices: dict[Address, list[Occurrence]]
    unrecorded: list[Occurrence]

    def returned(self, outputs: list[Any]) -> Any:
        """What the program returns, from the jaxpr's outputs."""
        return jax.tree.unflatten(self.tree, outputs)


def stage(function: Callable[..., Any], arguments: Arguments) -> Staged:
    """Stage `function(*args, **kwargs)`, where `arguments` is the split pair `(args, kwargs)`.

    Raises:
        DuplicateAddress: shows both source lines.
    """

    def run(*arrays: Any) -> Any:
        args, kwargs = arguments.rebuild(list(arrays))
        return function(*args, **kwargs)

    with _deep():
        jaxpr, shape = jax.make_jaxpr(run, return_shape=True)(*arguments.arrays)
    choices: dict[Address, list[Occurrence]] = {}
    unrecorded: list[Occurrence] = []
    for item in occurrences(jaxpr):
        if item.site.recorded:
            _check_new(choices.get(item.site.address, []), item)
            choices.setdefault(item.site.address, []).append(item)
        else:
            unrecorded.append(item)
    _check_prefixes(choices)
    arrays = [jnp.asarray(x) for x in arguments.arrays]
    return Staged(jaxpr, arrays, jax.tree.structure(shape), choices, unrecorded)


@contextlib.contextmanager
def _deep() -> Iterator[None]:
    """Each nested program is staged within the staging of the one around it, some thirty frames deep."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def check_recordable(staged: Staged) -> Staged:
    """Refuse a program whose trace would have no fixed shape.

    Raises:
        UnsupportedProgram: a recorded choice lies in a loop whose length is not known, or a choice is not
            recorded, so that the program's density is not known.
    """
    for item in staged.unrecorded:
        raise UnsupportedProgram(
            f"the choice {item.site.where} is proposed inside a generative function without being recorded, "
            "so the density of the function's trace is not known. Record it with `@ 'address'`, or propose "
            "it in the expectation."
        )
    if internals.holds(staged.jaxpr, frozenset({expect_p})):
        raise UnsupportedProgram(
            "a generative function takes an inner expectation, whose randomness is not part of its trace. "
            "Take it in the program of a @ppl.expectation."
        )
    for items in staged.choices.values():
        if None in items[0].lengths:
            raise UnsupportedProgram(
                f"the choice {items[0].site.where} lies inside a while loop whose number of steps is not "
                "known, so its values have no array to be recorded in. Use lax.scan or a lax.fori_loop "
                "with static bounds."
            )
    return staged


def _lines(item: Occurrence) -> str:
    lines = dict.fromkeys([item.site.source, *(equation_line(call) for call in reversed(item.calls))])
    lines.pop("<unknown line>", None)
    return " in ".join(lines)


def _check_new(earlier: list[Occurrence], item: Occurrence) -> None:
    for other in earlier:
        if not item.excludes(other):
            raise DuplicateAddress(
                f"the address {show(item.site.address)!r} is used twice:\n  first at {_lines(other)}\n"
                f"  again at {_lines(item)}\nGive each choice its own address, or nest one of the programs "
                "under an address of its own: `submodel(...) @ 'name'`."
            )
        same = (other.site.shape, other.site.dtype, other.site.lanes, other.lengths)
        if same != (item.site.shape, item.site.dtype, item.site.lanes, item.lengths):
            raise DuplicateAddress(
                f"the address {show(item.site.address)!r} has shape {other.site.shape} and dtype "
                f"{other.site.dtype} in one branch ({_lines(other)}) and {item.site.shape}, "
                f"{item.site.dtype} in another ({_lines(item)}). Use two addresses."
            )


def _check_prefixes(choices: dict[Address, list[Occurrence]]) -> None:
    for address, items in choices.items():
        for length in range(1, len(address)):
            if address[:length] in choices:
                first = choices[address[:length]][0]
                raise DuplicateAddress(
                    f"the address {show(address[:length])!r} names a choice at {_lines(first)}, and "
                    f"{show(address)!r} a choice below it at {_lines(items[0])}. Rename one of them."
                )
