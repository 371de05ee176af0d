"""One number that moves with chosen parameters of a program's choices.

Its value means nothing. It goes into a refusal (`ppl.refusal`), which asks whether a derivative moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.site import Site
from ppl.transforms.interpret import Joint, Outcome, Rule, walk
from ppl.transforms.naming import Name
from ppl.transforms.position import Here, start
from ppl.transforms.stage import Staged

Pick = Callable[[Site, Any], Any]
"""`(choice, distribution) -> a pytree of its parameters`."""


class _Sum(Rule):
    """A run, every choice given, that adds up the parameters that are picked."""

    totals = ("picked",)
    evaluates = False

    def __init__(self, pick: Pick) -> None:
        self.pick = pick

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        sums = site.per_lane(lambda distribution, _: total(self.pick(site, distribution)), operands)
        return Outcome(here.feed[site.address], {"picked": jnp.sum(sums)})

    @override
    def joint(self, equation: Any, operands: list[Any], here: Here) -> Joint:
        return Joint([here.feed[site.address] for site in equation.params["sites"]])


def total(tree: Any) -> Any:
    """The sum of all floats of a pytree."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    return sum((jnp.sum(x) for x in floats), jnp.zeros(()))


def witness(staged: Staged, feed: dict[Any, Any], pick: Pick) -> Any:
    """A number that moves where a parameter that `pick` selects does, at the choices of `feed`."""
    return walk(staged.jaxpr, staged.arrays, _Sum(pick), start(feed=feed)).totals["picked"]
