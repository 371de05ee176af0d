"""Guides with a distribution for each choice, made where the target makes the choice."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any, override

import jax

from ppl.address import Address, show
from ppl.errors import UnsupportedProgram
from ppl.given import prepared
from ppl.guides.family import Family, blank_of
from ppl.program import Program, gen
from ppl.site import Site
from ppl.transforms.interpret import walk
from ppl.transforms.occurrences import Occurrence
from ppl.transforms.position import start
from ppl.transforms.replace import Replace
from ppl.transforms.stage import Staged
from ppl.transforms.trace_axes import from_trace, raw_axes
from ppl.unconstrained import split

Parameters = dict[str, Any]
"""Of one choice, by name."""


class PerChoice(Family):
    """A guide that runs the target's code with other distributions.

    Parameters are a dictionary from address to those of the choice, which have the axes of loops and lanes
    first, as in a trace.
    """

    @abstractmethod
    def shapes(self, item: Occurrence) -> dict[str, Any]:
        """The shapes of the parameters of one lane and step of a choice: a dictionary, perhaps nested."""

    @abstractmethod
    def replacement(self, site: Site, distribution: Any, params: Parameters) -> tuple[Site, list[jax.Array]]:
        """The choice that is made instead, in one lane."""

    @override
    def measure(self, params: dict[str, Any]) -> Program:
        return _guide(self, params)

    @cached_property
    def blank(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Shapes and dtypes of the parameters."""
        blank: dict[str, Any] = {}
        for address, item in self._latent(self._staged()).items():
            if item.is_joint:
                raise UnsupportedProgram(
                    f"the choice {item.site.where} is of a measure whose density is estimated: write its "
                    "guide by hand."
                )
            raw = (*(length or 0 for length in item.lengths), *item.site.lanes)
            instances = [raw[axis] for axis in raw_axes(item)]
            blank[show(address)] = jax.tree.map(
                lambda shape, lead=instances: blank_of((*lead, *shape)), self.shapes(item), is_leaf=_is_shape
            )
        return blank

    def _staged(self) -> Staged:
        return split(self.target)[0].stage()

    def _latent(self, staged: Staged) -> dict[Address, Occurrence]:
        seen = dict(split(self.target)[1].leaves())
        return {address: items[0] for address, items in staged.choices.items() if address not in seen}


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple)


@gen
def _guide(family: PerChoice, params: dict[str, Any]) -> Any:
    staged = family._staged()
    latent = family._latent(staged)
    given = prepared(staged, split(family.target)[1], complete=False)
    feed: dict[Any, Any] = dict(given)
    known = {show(address): address for address in latent}
    for name, address in known.items():
        feed[address] = jax.tree.map(lambda x, item=latent[address]: from_trace(item, x), params[name])
    rule = Replace(frozenset(given), family.replacement)
    walk(staged.jaxpr, staged.arrays, rule, start(feed=feed))
