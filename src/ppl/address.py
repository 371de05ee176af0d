"""Addresses: the names of random choices.

An address is a string or a tuple of strings. Inside the library it is always a tuple, one component
for each level of nesting; `show` writes it with slashes.
"""

import difflib
import fnmatch
import zlib
from collections.abc import Iterable
from typing import Any

Address = tuple[str, ...]


def canonical(address: str | tuple[str, ...]) -> Address:
    """The address as a tuple of its components.

    Raises:
        TypeError: `address` is neither a string nor a tuple of strings.
    """
    parts = (address,) if isinstance(address, str) else address
    if not isinstance(parts, tuple) or not all(isinstance(part, str) for part in parts):
        raise TypeError(f"an address is a string or a tuple of strings, got {address!r}")
    return parts


def show(address: Address) -> str:
    """The address as people read it: components joined by slashes."""
    return "/".join(address)


def matches(pattern: str, address: Address) -> bool:
    """Whether a shell-style pattern over the slash-joined address matches."""
    return fnmatch.fnmatchcase(show(address), pattern)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known address, or nothing.

    Upper and lower case count as the same, and an address that lacks or adds enclosing components is close.

    Example:
        >>> nearest("Z", ["z", "y"]), nearest("z", ["sub/z", "y"]), nearest("w", ["z"])
        (" Did you mean 'z'?", " Did you mean 'sub/z'?", '')
    """
    addresses = list(known)
    lower = {address.lower(): address for address in reversed(addresses)}
    close = [lower[found] for found in difflib.get_close_matches(name.lower(), list(lower), n=1)]
    close += [a for a in addresses if a.endswith("/" + name) or name.startswith(a + "/")]
    return f" Did you mean {close[0]!r}?" if close else ""


# What a key folds in is a number of 32 bits. Steps of a loop and decimal components lie below 2**29,
# further draws of one choice, lanes and hashed components in ranges of their own: the four never meet.
_STEPS, _LANES, _HASHED = 1 << 29, 1 << 30, 1 << 31

Path = tuple[str | None, ...]
"""An address with a `None` for each loop that lies between its components."""


def is_step(component: str | None) -> bool:
    """Whether a component stands for a step of a loop: it is a number in canonical decimal form."""
    return component is None or (
        component.isascii() and component.isdecimal() and str(int(component)) == component
    )


class Folds:
    """The numbers that stand for address components, free of collisions within one run.

    A component that is a decimal number stands for that number, which is also what a step of
    `jax.lax.scan` folds in: the loop `normal(...) @ (str(t), "x")` draws what the scan draws. Any other
    is hashed; of two components with the same hash the later one is hashed again.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._taken: set[int] = set()
        self._paths: dict[Path, list[Path]] = {}

    def distinct(self, path: Path) -> Path:
        """The path, extended if it could otherwise give the key of another.

        A loop's step t and the component str(t) share a number; a program that has both `"x"` in a loop and
        `(str(t), "x")` beside it must still draw them independently.
        """
        if not any(is_step(part) for part in path):
            return path
        shape = tuple(None if is_step(part) else part for part in path)
        known = self._paths.setdefault(shape, [])
        if path not in known:
            known.append(path)
        for other in known[: known.index(path)] if None in path or _has_loops(known) else ():
            if all(p == o or None in (p, o) for p, o in zip(path, other, strict=True)):
                return (*path, "#beside a loop")
        return path

    def number(self, component: str) -> int:
        """The number of a component."""
        if is_step(component) and int(component) < _STEPS:
            return int(component)
        if component not in self._known:
            salted = component
            while (number := zlib.crc32(salted.encode()) | _HASHED) in self._taken:
                salted += "\0"
            self._known[component] = number
            self._taken.add(number)
        return self._known[component]


def _has_loops(paths: Iterable[Path]) -> bool:
    return any(None in path for path in paths)


def lane_number(lane: Any) -> Any:
    """What a lane folds into a key that it may share with other lanes."""
    return _LANES + lane


def further_draw(number: int) -> int:
    """What the second and later draws of one choice fold into its key."""
    return _STEPS + number
