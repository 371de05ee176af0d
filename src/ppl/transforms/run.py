"""Simulating, scoring and conditioning: one interpreter, some choices given and the others drawn.

At a given choice the value is taken from the feed; at any other it is drawn, either from the noise of a
key (`simulate`, `generate`) or as a choice of the program being staged around it (`propose`). Both add the
log density of their value to the total `log_density`, and some of them, the given ones if not said otherwise,
to `weight`. `Nest` makes all of a program part of the one around it, unscored (`@`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, override

import jax.numpy as jnp

from ppl.address import Address, show
from ppl.errors import UnsupportedProgram
from ppl.joint import Sites
from ppl.site import Site
from ppl.transforms.hidden import drawn, nested, scored
from ppl.transforms.interpret import Joint, Outcome, Rule
from ppl.transforms.naming import Name
from ppl.transforms.one_choice import Rebind, score_choice, simulate_choice
from ppl.transforms.position import Here
from ppl.transforms.tag import tagged


class Run(Rule):
    """The program with some choices given and the others drawn.

    Attributes:
        bind: draw by making a choice of the surrounding program; `None` to draw from noise.
        hidden: the same for the hidden choices of joint ones.
        weighed: the addresses whose scores make up `weight`; `None` for those that are given.
    """

    totals = ("log_density", "weight")

    def __init__(
        self, bind: Rebind | None = None, *, record: bool = True, hidden: Rebind | None = None,
        weighed: Container[Address] | None = None,
    ) -> None:  # fmt: skip
        self.bind, self.record, self.weighed = bind, record, weighed
        self.hidden = bind if hidden is None else hidden
        self.evaluates = bind is None

    @override
    def recorded(self, name: Name, site: Site) -> dict[Any, Any]:
        if not (site.recorded and self.record):
            return {}
        return {site.address: ((*site.lanes, *site.shape), site.dtype)}

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        given = site.recorded and site.address in here.feed
        if given:
            value = here.feed[site.address]
        elif self.bind is not None:
            value = self.bind(site, operands, len(here.loops))
        else:
            value = simulate_choice(name, site, operands, here)
        score = jnp.sum(score_choice(site, operands, value))
        return Outcome(value, self._scores(site, score, given), self._record(site, operands, value))

    @override
    def joint(self, equation: Any, operands: list[Any], here: Here) -> Joint:
        sites = equation.params["sites"]
        given = [site for site in sites if site.recorded and site.address in here.feed]
        if not given:
            values, score = drawn(equation, operands, self.hidden if self.bind else None, here)
        elif len(given) == len(sites):
            values = [here.feed[site.address] for site in sites]
            values, score = scored(equation, operands, values, self.hidden, here)
        else:
            raise _partial(sites, [site.address for site in given])
        if self.weighed is not None:
            counted = [site.address for site in sites if site.address in self.weighed]
            if 0 < len(counted) < len(sites):
                raise _partial(sites, counted)
        totals = self._scores(sites[0], jnp.sum(score), bool(given))
        records: dict[Any, Any] = {}
        for site, value in zip(sites, values, strict=True):
            records |= self._record(site, operands, value)
        return Joint(values, totals, records)

    def _scores(self, site: Site, score: Any, given: bool) -> Mapping[str, Any]:
        detail = f"{site.family} of shape {(*site.lanes, *site.shape)}, {site.source}"
        score = tagged(score, show(site.address), detail)
        weighed = given if self.weighed is None else site.address in self.weighed
        return {"log_density": score} | ({"weight": score} if weighed else {})

    def _record(self, site: Site, operands: list[Any], value: Any) -> Mapping[Any, Any]:
        if not (site.recorded and self.record):
            return {}
        mask = site.mask_over(operands, site.shape)
        return {site.address: value if mask is None else jnp.where(mask, value, jnp.zeros_like(value))}


def _partial(sites: Sites, some: list[Address]) -> UnsupportedProgram:
    these = ", ".join(site.where for site in sites if site.address in some)
    others = ", ".join(site.where for site in sites if site.address not in some)
    return UnsupportedProgram(
        f"{these} cannot be told apart from {others}: they are made together, and have one density. Give all "
        "of them or none, and infer some from the others by a proposal over them."
    )


class Nest(Rule):
    """The program as a part of the one around it: its choices are made anew, and that is all."""

    evaluates = False

    def __init__(self, bind: Rebind) -> None:
        self.bind = bind

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        return Outcome(self.bind(site, operands, len(here.loops)))

    @override
    def joint(self, equation: Any, operands: list[Any], here: Here) -> Joint:
        return Joint(nested(equation.params, operands, self.bind, len(here.loops)))
