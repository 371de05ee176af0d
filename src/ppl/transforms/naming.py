"""How the choices of a program are named, by every interpreter alike.

A choice is its address and how many choices with that address came before it in program order, in other
branches of a conditional too: two branches may make choices of different shapes or by different estimators
at one address.
"""

from __future__ import annotations

from ppl.address import Address, Path
from ppl.inner import expect_p
from ppl.joint import joint_p
from ppl.site import Site, sample_p

Name = tuple[Address, int]
"""One choice of a program: its address, and how many choices with that address came before it."""

Count = dict[Address, int]
"""How often each address has come up."""

INNER: Address = ("<expect>",)
"""The address under which inner expectations are counted."""

CHOICES = frozenset({sample_p, expect_p, joint_p})
"""The primitives to which an interpreter gives a meaning."""


def next_name(count: Count, address: Address) -> Name:
    """The name of the next choice with this address; counts it."""
    occurrence = count.get(address, 0)
    count[address] = occurrence + 1
    return address, occurrence


def advance(count: Count, *others: Count) -> None:
    """Count on from whichever of some alternatives counted furthest."""
    for other in others:
        for address, occurrence in other.items():
            count[address] = max(count.get(address, 0), occurrence)


def full_path(name: Name, site: Site | None, loops: int) -> Path:
    """The path of a choice, from the outermost of its loops on, with its occurrence if not the first."""
    path: Path = (site and site.path) or name[0]
    again = () if name[1] == 0 else (f"#{name[1]}",)
    return ((None,) * (loops - sum(part is None for part in path))) + path + again
