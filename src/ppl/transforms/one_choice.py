"""What can be done with one random choice: draw it, score it, or make it a choice of another program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.address import Address
from ppl.distributions.sampling import draw
from ppl.noise import Noise, Token
from ppl.site import Site, sample_p
from ppl.transforms.naming import Name
from ppl.transforms.position import Here


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


Reestimate = Callable[[Site, Any], tuple[Any, dict[str, Any]]]
"""The estimator of a choice: `(site, (distribution, estimator)) -> (estimator, changes to the site)`."""


class Rebind(NamedTuple):
    """How a nested program's choices become choices of the surrounding one.

    Attributes:
        prefix: put before each address.
        recorded: whether the choices belong to the surrounding program's trace.
        reestimate: chooses their estimators.
    """

    prefix: Address
    recorded: bool
    reestimate: Reestimate = lambda site, made: (made[1], {})

    def __call__(self, site: Site, operands: list[Any], loops: int) -> Any:
        """Makes the choice; `loops` is how many loops of the nested program enclose it."""
        leaves, mask = site.split(operands)
        made = site.one_lane(operands)
        chosen, changes = self.reestimate(site, made)
        if chosen is not made[1]:
            site, leaves = _with_estimator(replace(site, **changes), leaves, made[0], chosen)
        site = self.renamed(site, loops)
        return sample_p.bind(*leaves, *(() if mask is None else (mask,)), site=site)

    def renamed(self, site: Site, loops: int) -> Site:
        """The record of a choice under the address that it gets."""
        path = site.path or site.address
        path = (None,) * (loops - sum(part is None for part in path)) + path
        return replace(
            site, address=(*self.prefix, *site.address), recorded=site.recorded and self.recorded,
            path=(*self.prefix, *path),
        )  # fmt: skip


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
