"""Checking choices that a user gives against what a program draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ppl.address import Address, canonical, nearest, show
from ppl.choices import Choices
from ppl.errors import ChoiceDtypeError, ChoiceShapeError, MissingChoice, UnknownAddress, UnusedChoice
from ppl.transforms.stage import Staged
from ppl.transforms.trace_axes import from_trace, trace_shape


def coerced(value: Any, shape: tuple[int, ...], dtype: Any, what: str) -> jax.Array:
    """The value as an array of the given shape and dtype, if it fits.

    Raises:
        ChoiceShapeError: another shape; nothing is broadcast.
        ChoiceDtypeError: a kind of number that would lose information.
    """
    if isinstance(value, Mapping):
        raise ChoiceDtypeError(
            f"{what} is an array, but choices at {', '.join(map(repr, value)) or 'no address'} were given. A "
            "single distribution has no addresses: make it a choice of a program, "
            "`ppl.gen(lambda ...: family(...) @ 'name')`."
        )
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ChoiceDtypeError(f"{what} is an array, but {value!r} was given.") from error
    if array.shape != tuple(shape):
        raise ChoiceShapeError(
            f"{what} has shape {tuple(shape)}, but a value of shape {array.shape} was given. Nothing is "
            "broadcast: reshape the value."
        )
    if not _fits(array.dtype, dtype):
        raise ChoiceDtypeError(
            f"{what} has dtype {jnp.dtype(dtype).name}, but a value of dtype {array.dtype.name} was given. "
            f"Convert it: `value.astype({jnp.dtype(dtype).name!r})`."
        )
    return array.astype(dtype)


def _fits(given: Any, wanted: Any) -> bool:
    """Whether numbers of one dtype are numbers of the other: booleans are integers, integers are reals."""
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    rank = [
        next((i for i, kind in enumerate(kinds) if jnp.issubdtype(d, kind)), None) for d in (given, wanted)
    ]
    return rank[0] is not None and rank[1] is not None and rank[0] <= rank[1]


def prepared(staged: Staged, given: Mapping[Any, Any], *, complete: bool) -> dict[Address, Any]:
    """The given choices as the walk wants them.

    Raises:
        MissingChoice: `complete`, and a choice of the program is not among them.
        UnusedChoice: one of them is no choice of the program.
        ChoiceShapeError, ChoiceDtypeError: one of them does not fit.
    """
    leaves = dict(Choices(given).leaves())
    missing = [address for address in staged.choices if address not in leaves] if complete else []
    if unused := [address for address in leaves if address not in staged.choices]:
        raise _unused(staged, unused, missing)
    if missing:
        items = ", ".join(staged.choices[address][0].site.where for address in missing)
        raise MissingChoice(
            f"a log density needs every choice of the program; these are missing: {items}. Add them to the "
            "choices, or leave them out knowingly by `generate`."
        )
    feed = {}
    for address, value in leaves.items():
        item = staged.choices[address][0]
        shape = tuple(length or 0 for length in trace_shape(item))
        feed[address] = from_trace(
            item, coerced(value, shape, item.site.dtype, f"the choice {item.site.where}")
        )
    return feed


def below(staged: Staged, addresses: Iterable[str | Address]) -> frozenset[Address]:
    """The choices of a program at, or below, these addresses."""
    wanted = [canonical(address) for address in addresses]
    return frozenset(a for a in staged.choices if any(a[: len(w)] == w for w in wanted))


def selected(choices: Choices, addresses: Iterable[str | Address], measure: Any, what: str) -> Choices:
    """The choices of a draw at, or below, these addresses; `what` asks for them, for the message.

    Raises:
        UnknownAddress: there is none at one of them.
    """
    known = [show(address) for address, _ in choices.leaves()]
    for address in addresses:
        if not choices.select(address):
            name = show(canonical(address))
            raise UnknownAddress(
                f"{what} {name!r}, but {measure!r} has no such choice; it has "
                f"{_listed([repr(other) for other in known]) or 'none'}.{nearest(name, known)}"
            )
    return choices.select(*addresses)


_SHOWN = 20
"""How many addresses a message lists, at most."""


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _unused(staged: Staged, unused: list[Address], missing: list[Address]) -> UnusedChoice:
    """The error for addresses that the program does not have; names what it lacks too."""
    known = [show(address) for address in staged.choices]
    has = f"the program, which has {_listed([repr(name) for name in known]) or 'none'}."
    # A misspelt address is both: what it was meant to be is missing.
    wanted = [show(address) for address in missing] or known
    hints = [nearest(show(address), wanted) or nearest(show(address), known) for address in unused]
    if len(unused) == 1:
        message = f"{show(unused[0])!r} is no choice of {has}{hints[0]}"
    else:
        names = [
            f"{show(a)!r}{f' ({hint.strip()})' if hint else ''}"
            for a, hint in zip(unused, hints, strict=True)
        ]
        message = f"{_listed(names)} are no choices of {has}"
    if missing:
        message += f" Missing: {_listed([staged.choices[address][0].site.where for address in missing])}."
    return UnusedChoice(message)
