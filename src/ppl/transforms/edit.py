"""Changing a run of a program: some choices are kept from it, the others drawn anew.

Whether a choice is kept is decided for each lane and step: one that the old run did not make, because it took
another branch, is drawn.
"""

from __future__ import annotations

from typing import Any, NamedTuple, override

import jax.numpy as jnp

from ppl.errors import UnsupportedProgram
from ppl.site import Site
from ppl.transforms.interpret import Joint, Outcome, Rule
from ppl.transforms.naming import Name
from ppl.transforms.one_choice import Rebind, score_choice, simulate_choice
from ppl.transforms.position import Here

MADE = "made"


class Kept(NamedTuple):
    """What the feed of an edit holds for a choice; one that it does not hold is drawn.

    Attributes:
        values: what to keep.
        where: a Boolean for each lane and step: whether it is kept there; `None` for everywhere.
        weighed: likewise, whether its log density counts in the weight; `None` for nowhere.
    """

    values: Any
    where: Any = None
    weighed: Any = None


class Edit(Rule):
    """A run in which each instance of a choice is kept or drawn, as a feed of `Kept` says.

    It adds up the log density of all that is made, as `weight` that of what is weighed, and as `drawn` that
    of what is not kept; it records the values, and at `(address, MADE)` where they are made at all.

    Attributes:
        bind: draws by making a choice of the surrounding program; `None` to draw from noise.
    """

    totals = ("log_density", "weight", "drawn")

    def __init__(self, bind: Rebind | None = None) -> None:
        self.bind, self.evaluates = bind, bind is None

    @override
    def recorded(self, name: Name, site: Site) -> dict[Any, Any]:
        return {
            site.address: ((*site.lanes, *site.shape), site.dtype),
            (site.address, MADE): (site.lanes, jnp.dtype(bool)),
        }

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        kept = here.feed.get(site.address)
        value = self._value(name, site, operands, here, kept)
        scores = score_choice(site, operands, value)

        def among(where: Any) -> Any:
            return jnp.sum(
                jnp.where(where.reshape(where.shape + (1,) * (scores.ndim - where.ndim)), scores, 0)
            )

        total, nothing = jnp.sum(scores), jnp.zeros((), scores.dtype)
        drawn = total if kept is None else nothing if kept.where is None else among(~kept.where)
        weight = nothing if kept is None or kept.weighed is None else among(kept.weighed)
        mask = site.mask_over(operands, ())
        made = jnp.ones(site.lanes, bool) if mask is None else mask
        wide = made.reshape(made.shape + (1,) * len(site.shape))
        records = {site.address: jnp.where(wide, value, jnp.zeros_like(value)), (site.address, MADE): made}
        return Outcome(value, {"log_density": total, "weight": weight, "drawn": drawn}, records)

    def _value(self, name: Name, site: Site, operands: list[Any], here: Here, kept: Kept | None) -> Any:
        if kept is not None and kept.where is None:
            return kept.values
        if self.bind is None:
            fresh = simulate_choice(name, site, operands, here)
        else:
            fresh = self.bind(site, operands, len(here.loops))
        if kept is None:
            return fresh
        return jnp.where(kept.where.reshape(kept.where.shape + (1,) * len(site.shape)), kept.values, fresh)

    @override
    def joint(self, equation: Any, operands: list[Any], here: Here) -> Joint:
        raise UnsupportedProgram(
            f"a trace of this program cannot be changed: its choice {equation.params['sites'][0].where} has "
            "a density that is estimated, by hidden choices that the trace does not hold."
        )
