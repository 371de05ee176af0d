"""Between the choices of a program and real arrays: a bijection at each choice, along the program's own code.

The support of a choice may depend on earlier choices, so both directions run the program: from the arrays,
each choice is the image of its array; from the choices, each array is the preimage of its choice. The two
walks differ in nothing else. Their law: one undoes the other, and the totals of both are the logarithm of the
absolute determinant of the Jacobian matrix from the arrays to the choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.address import Address
from ppl.errors import UnsupportedProgram
from ppl.site import Site
from ppl.transforms.interpret import Joint, Outcome, Rule
from ppl.transforms.naming import Name
from ppl.transforms.position import Here

Bijection = Callable[[Site, Any], Any]
"""`(choice, distribution of one lane) -> bijection` from real arrays to its support, as NumPyro has them."""

MADE = "made"
"""`(address, MADE)` is the record of where a choice is made."""


class Constrain(Rule):
    """The program with some choices given, as values in the feed, and the others between two forms.

    Attributes:
        given: the addresses of the former.
        shapes: of the real arrays of the others, in one lane and step.
        bijection: makes the bijection of one of them.
        inverse: whether the feed holds choices, and arrays are recorded; otherwise the other way round.
    """

    totals = ("log_det",)
    evaluates = False

    def __init__(
        self, given: frozenset[Address], shapes: Mapping[Address, tuple[int, ...]], bijection: Bijection,
        *, inverse: bool,
    ) -> None:  # fmt: skip
        self.given, self.shapes, self.bijection, self.inverse = given, shapes, bijection, inverse

    @override
    def recorded(self, name: Name, site: Site) -> dict[Any, Any]:
        if site.address in self.given:
            return {}
        shape = self.shapes[site.address] if self.inverse else site.shape
        return {site.address: ((*site.lanes, *shape), site.dtype), (site.address, MADE): (site.lanes, bool)}

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        fed = here.feed[site.address]
        if site.address in self.given:
            return Outcome(fed)
        mask = site.mask_over(operands, ())
        made = jnp.ones(site.lanes, bool) if mask is None else mask

        def lane(distribution: Any, _: Any, fed: Any, made: Any) -> tuple[Any, Any, Any]:
            transform = self.bijection(site, distribution)
            if self.inverse:
                # A value that is not made may lie outside the support, and its derivative be no number.
                inside = transform(jnp.zeros(self.shapes[site.address], site.dtype))
                value = jnp.where(made, fed, jax.lax.stop_gradient(inside))
                real = transform.inv(value)
            else:
                real = fed.astype(site.dtype)
                value = transform(real).astype(site.dtype)
            return value, real, jnp.sum(transform.log_abs_det_jacobian(real, value))

        value, real, log_det = site.per_lane(lane, operands, fed, made)
        kept = real if self.inverse else value
        if mask is not None:  # otherwise what is known of the value's range stays known
            there = made.reshape(*made.shape, *(1,) * (jnp.ndim(kept) - made.ndim))
            kept, log_det = jnp.where(there, kept, 0), jnp.where(made, log_det, 0)
        kept, total = kept.astype(site.dtype), jnp.sum(log_det)
        return Outcome(value, {"log_det": total}, {site.address: kept, (site.address, MADE): made})

    @override
    def joint(self, equation: Any, operands: list[Any], here: Here) -> Joint:
        sites = equation.params["sites"]
        if all(site.address in self.given for site in sites):
            return Joint([here.feed[site.address] for site in sites])
        raise estimated(sites[0], "condition on it.")


def estimated(site: Site, hint: str) -> UnsupportedProgram:
    """The refusal of a choice whose density is estimated."""
    return UnsupportedProgram(
        f"the choice {site.where} is of a measure that makes its choices together, with a density that is "
        f"mostly estimated, so no real numbers stand for it: {hint}"
    )
