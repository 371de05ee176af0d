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
from ppl.transforms.one_choice import score_choice, simulate_choice
from ppl.transforms.position import Here

MADE = "made"


class Kept(NamedTuple):
    """What the feed of an edit holds for a choice.

    Attributes:
        values: what to keep.
        where: a Boolean for each lane and step: whether it is kept there.
        weighed: likewise, whether its log density counts in the weight.
    """

    values: Any
    where: Any
    weighed: Any


class Edit(Rule):
    """A run in which each instance of a choice is kept or drawn, as a feed of `Kept` says.

    It adds up the log density of all that is made, and as `weight` that of what is weighed; it records the
    values, and at `(address, MADE)` where they are made at all.
    """

    totals = ("log_density", "weight")

    @override
    def recorded(self, name: Name, site: Site) -> dict[Any, Any]:
        return {
            site.address: ((*site.lanes, *site.shape), site.dtype),
            (site.address, MADE): (site.lanes, jnp.dtype(bool)),
        }

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        values, kept, weighed = here.feed[site.address]
        fresh = simulate_choice(name, site, operands, here)
        value = jnp.where(kept.reshape(kept.shape + (1,) * len(site.shape)), values, fresh)
        scores = score_choice(site, operands, value)
        among = weighed.reshape(weighed.shape + (1,) * (scores.ndim - weighed.ndim))
        totals = {"log_density": jnp.sum(scores), "weight": jnp.sum(jnp.where(among, scores, 0))}
        mask = site.mask_over(operands, ())
        made = jnp.ones(site.lanes, bool) if mask is None else mask
        wide = made.reshape(made.shape + (1,) * len(site.shape))
        records = {site.address: jnp.where(wide, value, jnp.zeros_like(value)), (site.address, MADE): made}
        return Outcome(value, totals, records)

    @override
    def joint(self, equation: Any, operands: list[Any], here: Here) -> Joint:
        raise UnsupportedProgram(
            f"a trace of this program cannot be changed: its choice {equation.params['sites'][0].where} has "
            "a density that is estimated, by hidden choices that the trace does not hold."
        )
