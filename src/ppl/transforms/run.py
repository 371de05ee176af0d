"""Simulating, scoring and conditioning: one interpreter, some choices given and the others drawn.

At a given choice the value is taken from the feed; at any other it is drawn, either from the noise of a
key (`simulate`, `generate`) or as a choice of the program being staged around it (`propose`, `@`). Both
add the log density of their value to the total `log_density`, given ones also to `weight`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.address import Address, show
from ppl.distributions.sampling import draw
from ppl.noise import Noise, Token
from ppl.site import Site, sample_p
from ppl.transforms.interpret import Outcome, Rule
from ppl.transforms.naming import Name
from ppl.transforms.occurrences import Occurrence
from ppl.transforms.position import Here
from ppl.transforms.tag import tagged


def noise_of(name: Name, site: Site, here: Here) -> tuple[jax.Array, Token]:
    """The key of a choice, and a token with its lane axes."""
    return here.key_of(name, site), here.token.over(site.lanes)


def simulate_choice(name: Name, site: Site, operands: Sequence[Any], here: Here) -> Any:
    """One draw of a choice from the noise of the run's key.

    It is of the family's law. The dtype is the choice's: that of a float where the estimator relaxes a coin.
    """
    key, token = noise_of(name, site, here)
    if not site.lanes:
        distribution, _ = jax.tree.unflatten(site.tree, site.split(operands)[0])
        return draw(distribution, Noise(key, token)).astype(site.dtype)
    drawn = site.per_lane(
        lambda distribution, _, token: draw(distribution, Noise(key, token)), operands, token
    )
    return drawn.astype(site.dtype)


def score_choice(site: Site, operands: Sequence[Any], value: Any) -> Any:
    """The log density of a value at a choice, one number an instance; zero where it is not made."""
    scores = site.per_lane(
        lambda distribution, estimator, value: estimator.log_density(distribution, value), operands, value
    )
    mask = site.mask_over(operands, site.batch_shape)
    return scores if mask is None else jnp.where(mask, scores, 0)


class Run(Rule):
    """The program with some choices given and the others drawn.

    Attributes:
        bind: draw by making a choice of the surrounding program, prepared by this function from
            `(site, operands, loops)`; `None` to draw from noise.
        scored: whether log densities are wanted.
    """

    def __init__(
        self, bind: Callable[..., Any] | None = None, *, scored: bool = True, record: bool = True
    ) -> None:
        self.bind, self.scored, self.record = bind, scored, record
        self.totals = ("log_density", "weight") if scored else ()
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
        totals: dict[str, Any] = {}
        if self.scored:
            detail = f"{site.family} of shape {(*site.lanes, *site.shape)}, {site.source}"
            score = tagged(jnp.sum(score_choice(site, operands, value)), show(site.address), detail)
            totals = {"log_density": score} | ({"weight": score} if given else {})
        records = {}
        if site.recorded and self.record:
            mask = site.mask_over(operands, site.shape)
            records[site.address] = value if mask is None else jnp.where(mask, value, jnp.zeros_like(value))
        return Outcome(value, totals, records)


def rebind(
    prefix: Address, recorded: bool, reestimate: Callable[[Site, Any], tuple[Any, dict[str, Any]]]
) -> Callable[..., Any]:
    """How a nested program's choices become choices of the surrounding one.

    Args:
        prefix: put before each address.
        recorded: whether the choices belong to the surrounding program's trace.
        reestimate: `(site, (distribution, estimator)) -> (estimator, changes to the site)`.
    """

    def bind(site: Site, operands: list[Any], loops: int) -> Any:
        leaves, mask = site.split(operands)
        made = site.one_lane(operands)
        chosen, changes = reestimate(site, made)
        if chosen is not made[1]:
            site, leaves = _with_estimator(replace(site, **changes), leaves, made[0], chosen)
        path = site.path or site.address
        path = (None,) * (loops - sum(part is None for part in path)) + path
        site = replace(
            site, address=(*prefix, *site.address), recorded=site.recorded and recorded, path=(*prefix, *path)
        )
        return sample_p.bind(*leaves, *(() if mask is None else (mask,)), site=site)

    return bind


def _with_estimator(
    site: Site, leaves: list[Any], distribution: Any, estimator: Any
) -> tuple[Site, list[Any]]:
    kept = len(jax.tree.leaves(distribution))
    added = [jnp.asarray(leaf) for leaf in jax.tree.leaves(estimator)]
    # The tree is rebuilt from the structure of the distribution itself, whose leaves may lack lanes.
    tree = jax.tree.structure((distribution, estimator))
    mapped = site.mapped
    if mapped:
        mask = mapped[-1:] if site.masked else ()
        mapped = (*mapped[:kept], *((False,) * len(site.lanes) for _ in added), *mask)
    return replace(site, tree=tree, mapped=mapped), [*leaves[:kept], *added]


def raw_axes(item: Occurrence) -> list[int]:
    """Where each axis of a recorded value belongs: raw records have the loops first, then the lanes.

    A lane that lies outside of some of the loops comes before them.
    """
    loops = len(item.lengths)
    places = [float(position) for position in range(1, loops + 1)]
    places += [loops - level + 0.5 for level in item.site.levels]
    return sorted(range(len(places)), key=lambda axis: places[axis])


def to_trace(item: Occurrence, raw: Any) -> Any:
    """A recorded array with its axes in the order of a trace."""
    order = raw_axes(item)
    return jnp.transpose(raw, [*order, *range(len(order), jnp.ndim(raw))])


def from_trace(item: Occurrence, value: Any) -> Any:
    """A given array with its axes in the order of the walk."""
    order = raw_axes(item)
    inverse = [order.index(axis) for axis in range(len(order))]
    return jnp.transpose(value, [*inverse, *range(len(order), jnp.ndim(value))])


def trace_shape(item: Occurrence) -> tuple[int | None, ...]:
    """The shape of a choice as a trace holds it."""
    raw = (*item.lengths, *item.site.lanes, *item.site.shape)
    order = raw_axes(item)
    return (*(raw[axis] for axis in order), *item.site.shape)
