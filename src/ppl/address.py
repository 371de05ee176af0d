"""Addresses: the names of random choices.

An address is a string or a tuple of strings. Inside the library it is always a tuple, one component
for each level of nesting; `show` writes it with slashes.
"""

import difflib
import fnmatch
import zlib
from collections.abc import Iterable

import jax

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


def fold(key: jax.Array, component: str) -> jax.Array:
    """The key of one component of an address path.

    A component that is a decimal number folds in that number, which is also what a step of
    `jax.lax.scan` folds in: the loop `normal(...) @ (str(t), "x")` draws what the scan draws.
    """
    number = int(component) if component.isdecimal() else zlib.crc32(component.encode()) | 1 << 31
    return jax.random.fold_in(key, number & 0xFFFFFFFF)
