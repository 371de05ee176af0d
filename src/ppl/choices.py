"""Choices: what a program drew, as a nested dictionary from address to array."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from ppl.address import Address, canonical, show
from ppl.errors import OverlappingChoices


class Choices(dict[str, Any]):
    """A nested dictionary from address to array; a pytree.

    `choices["sub", "x"]` and `choices["sub"]["x"]` are the same entry. `a | b` merges two disjoint
    sets of choices.

    Raises:
        OverlappingChoices: `a | b` where both hold a value at the same address.

    Example:
        >>> Choices({"x": 1.0}) | {"sub": {"y": 2.0}}
        Choices({'x': 1.0, 'sub': Choices({'y': 2.0})})
    """

    def __init__(self, entries: Mapping[Any, Any] | None = None) -> None:
        super().__init__()
        if entries is None:
            entries = {}
        if not isinstance(entries, Mapping):
            raise TypeError(
                f"choices are a mapping from address to value, got {_describe(entries)}. The draw of a "
                "single distribution has no address: give it one, by a program of one choice, "
                "`ppl.gen(lambda ...: family(...) @ 'name')`."
            )
        for address, value in entries.items():
            self._insert(canonical(address), value)

    def _insert(self, address: Address, value: Any) -> None:
        for leaf_address, leaf in _leaves(address, value):
            node: dict[str, Any] = self
            for depth, part in enumerate(leaf_address[:-1]):
                child = dict.get(node, part)
                if child is None:
                    child = Choices()
                    dict.__setitem__(node, part, child)
                elif not isinstance(child, dict):
                    raise _overlap(leaf_address[: depth + 1])
                node = child
            if leaf_address[-1] in node:
                raise _overlap(leaf_address)
            dict.__setitem__(node, leaf_address[-1], leaf)

    def __getitem__(self, address: str | Address) -> Any:
        node: Any = self
        for part in canonical(address):
            node = dict.__getitem__(node, part)
        return node

    def __contains__(self, address: object) -> bool:
        try:
            self[address]  # type: ignore[index]
        except (KeyError, TypeError):
            return False
        return True

    def get(self, address: str | Address, default: Any = None) -> Any:
        """The entry at an address, or a default."""
        try:
            return self[address]
        except (KeyError, TypeError):
            return default

    def _immutable(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "choices are not changed in place. Merge with `a | b`, which refuses an overlap, or leave some "
            "out with `choices.without(address)` first."
        )

    __setitem__ = __delitem__ = update = pop = popitem = clear = setdefault = _immutable  # pyright: ignore

    def __ior__(self, other: Any) -> Choices:  # type: ignore[override,misc]
        return merge(self, other)

    def __reduce__(self) -> Any:
        return Choices, (dict(self),)

    def copy(self) -> Choices:
        """The same choices."""
        return Choices(self)

    def leaves(self) -> Iterator[tuple[Address, Any]]:
        """Each `(address, value)`, addresses as tuples."""
        yield from _leaves((), self)

    def select(self, *addresses: str | Address) -> Choices:
        """Only the choices at, or below, these addresses."""
        wanted = [canonical(address) for address in addresses]
        return self._where(lambda address: any(address[: len(w)] == w for w in wanted))

    def without(self, *addresses: str | Address) -> Choices:
        """All choices but those at, or below, these addresses.

        Example:
            >>> Choices({"x": 1.0, "sub": {"y": 2.0}}).without("sub")
            Choices({'x': 1.0})
        """
        unwanted = [canonical(address) for address in addresses]
        return self._where(lambda address: not any(address[: len(w)] == w for w in unwanted))

    def _where(self, holds: Callable[[Address], bool]) -> Choices:
        kept = Choices()
        for address, value in self.leaves():
            if holds(address):
                kept._insert(address, value)
        return kept

    def __or__(self, other: Any) -> Choices:  # type: ignore[override]
        return merge(self, other)

    def __ror__(self, other: Any) -> Choices:  # type: ignore[override]
        return merge(other, self)

    def __repr__(self) -> str:
        return f"Choices({dict.__repr__(self)})"


def _describe(value: Any) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, jax.Array) else repr(value)


def _leaves(address: Address, value: Any) -> Iterator[tuple[Address, Any]]:
    if isinstance(value, Mapping):
        for part, child in value.items():
            yield from _leaves((*address, *canonical(part)), child)
    else:
        yield address, value


def _overlap(address: Address) -> OverlappingChoices:
    return OverlappingChoices(
        f"both sets of choices hold the address {show(address)!r}. Remove it from one of them: "
        "merging never overwrites a value."
    )


def merge(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> Choices:
    """The union of two disjoint sets of choices."""
    merged = Choices(first)
    for address, value in Choices(second).leaves():
        merged._insert(address, value)
    return merged


def _flatten_with_keys(choices: Choices) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
    names = tuple(sorted(choices))
    return [(jax.tree_util.DictKey(name), dict.__getitem__(choices, name)) for name in names], names


def _unflatten(names: tuple[str, ...], values: Any) -> Choices:
    choices = Choices()
    for name, value in zip(names, values, strict=True):
        dict.__setitem__(choices, name, value)
    return choices


jax.tree_util.register_pytree_with_keys(Choices, _flatten_with_keys, _unflatten)
