"""A program of the same addresses whose choices are of other distributions.

It runs the same code: in loops, lanes and branches each choice is made where the program makes it, knowing
what it knows there. So a guide that is made of a model covers its choices, and none that it does not make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.address import Address
from ppl.errors import UnsupportedProgram
from ppl.site import Site, sample_p
from ppl.transforms.interpret import Joint, Outcome, Rule
from ppl.transforms.naming import Name
from ppl.transforms.position import Here

Make = Callable[[Site, Any, Any], tuple[Site, list[jax.Array]]]
"""The record and the operands of the choice that is made instead, in one lane, from `(site, distribution,
parameters)`."""


class Replace(Rule):
    """The program with some choices given, as values in the feed, and all others replaced.

    Attributes:
        given: the addresses of the former. For the others the feed holds parameters.
        make: makes the replacement.
    """

    evaluates = False

    def __init__(self, given: frozenset[Address], make: Make) -> None:
        self.given, self.make = given, make

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        if site.address in self.given:
            return Outcome(here.feed[site.address])
        parameters, structure = jax.tree.flatten(here.feed[site.address])
        made: list[Site] = []

        def lane(distribution: Any, _: Any, *parameters: Any) -> list[jax.Array]:
            new, leaves = self.make(site, distribution, jax.tree.unflatten(structure, parameters))
            made.append(new)
            return leaves

        leaves = site.per_lane(lane, operands, *parameters)
        new = made[-1]
        if (new.shape, jnp.dtype(new.dtype)) != (site.shape, jnp.dtype(site.dtype)):
            raise UnsupportedProgram(
                f"the choice {site.where} has shape {site.shape} and dtype {site.dtype}, what replaces it "
                f"{new.shape} and {new.dtype}."
            )
        _, mask = site.split(operands)
        mapped = tuple((True,) * len(site.lanes) for _ in leaves)
        new = replace(
            new, lanes=site.lanes, levels=site.levels, loops=site.loops, masked=site.masked,
            branches=site.branches, path=site.path,
            mapped=mapped if mask is None else (*mapped, site.mapped[-1]),
        )  # fmt: skip
        return Outcome(sample_p.bind(*leaves, *(() if mask is None else (mask,)), site=new))

    @override
    def joint(self, equation: Any, operands: list[Any], here: Here) -> Joint:
        sites = equation.params["sites"]
        if all(site.address in self.given for site in sites):
            return Joint([here.feed[site.address] for site in sites])
        raise UnsupportedProgram(
            f"the choice {sites[0].where} is of a measure whose density is estimated: write the guide of "
            "this program by hand."
        )
