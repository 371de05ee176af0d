"""Addresses: the names of random choices.

An address is a string or a tuple of strings. Inside the library it is always a tuple, one component
for each level of nesting; `show` writes it with slashes.
"""

import difflib
import fnmatch
import zlib
from collections.abc import Iterable

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
    """A hint that names the closest known address, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


# What a key folds in is a number of 32 bits. Steps of a loop and decimal components lie below 2**30,
# further draws of one choice above it, hashed components above 2**31: the three never meet.
_STEPS, _HASHED = 1 << 30, 1 << 31


class Folds:
    """The numbers that stand for address components, free of collisions within one run.

    A component that is a decimal number stands for that number, which is also what a step of
    `jax.lax.scan` folds in: the loop `normal(...) @ (str(t), "x")` draws what the scan draws. Any other
    is hashed; of two components with the same hash the later one is hashed again.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._taken: set[int] = set()

    def number(self, component: str) -> int:
        """The number of a component."""
        if component.isdecimal() and int(component) < _STEPS:
            return int(component)
        if component not in self._known:
            salted = component
            while (number := zlib.crc32(salted.encode()) | _HASHED) in self._taken:
                salted += "\0"
            self._known[component] = number
            self._taken.add(number)
        return self._known[component]


def further_draw(number: int) -> int:
    """What the second and later draws of one choice fold into its key."""
    return _STEPS + number
