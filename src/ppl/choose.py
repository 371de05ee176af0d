"""Making a random choice of a distribution in the program that is being staged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ppl.address import Address, matches, nearest, show
from ppl.distributions.density import support_values
from ppl.errors import UnknownAddress
from ppl.estimators.protocol import Contribution, Estimator
from ppl.estimators.registry import check_admitted, default_estimator
from ppl.noise import Noise
from ppl.site import UNNAMED, Site, sample_p


def choose(family: str, distribution: Any, estimator: Any, address: Address | None, source: str) -> Any:
    """Make one random choice; `address` is `None` for one that is not recorded."""
    support = support_values(distribution)
    estimator = default_estimator(distribution) if estimator is None else estimator
    name = address or UNNAMED
    estimator = estimator.prepare(support)
    check_admitted(estimator, distribution, f"{show(name)!r} ({family}, {source})")
    leaves, tree = jax.tree.flatten((distribution, estimator))
    made = shapes(distribution, estimator)
    site = Site(
        address=name, recorded=address is not None, family=family, tree=tree, shape=made.value.shape,
        dtype=made.value.dtype, batch_shape=tuple(distribution.batch_shape), source=source,
        support=support, **needs(estimator, made),
    )  # fmt: skip
    return sample_p.bind(*(jnp.asarray(leaf) for leaf in leaves), site=site)


def shapes(distribution: Any, estimator: Estimator) -> Contribution:
    """Shapes and dtypes of what the estimator makes of the choice in one lane, for a first derivative.

    `distribution` may hold `jax.ShapeDtypeStruct`s in place of arrays.
    """
    return jax.eval_shape(lambda d: estimator.contribute(d, Noise(jax.random.key(0)), 1), distribution)


def needs(estimator: Estimator, made: Contribution) -> dict[str, Any]:
    """What a site must know of an estimator: how many phantoms, and from which order on it has the rest."""
    score, excess = estimator.score_beyond_first, estimator.excess_beyond_first
    return {
        "phantoms": 0 if made.phantoms is None else made.phantoms.shape[0],
        "score": 1 if made.score is not None else 2 * score,
        "baseline": made.baseline is not None,
        "control": made.control is not None,
        "excess": 1 if made.excess is not None else 2 * excess,
    }


class Using:
    """Estimators chosen from outside: by address pattern, or by a function of address and family.

    A mapping goes from shell-style patterns over slash-joined addresses (`"layers/*/z"`) to estimators;
    the first pattern that matches decides. A function returns an estimator, or `None` to keep the one
    that is there. It is hashed by its content, so that compiled methods are found again.
    """

    def __init__(self, chosen: dict[str, Any] | Callable[[str, str], Any]) -> None:
        self.chosen = chosen

    def __call__(self, address: Address, family: str) -> Any:
        """The estimator for a choice, or `None`."""
        if callable(self.chosen):
            return self.chosen(show(address), family)
        return next((e for pattern, e in self.chosen.items() if matches(pattern, address)), None)

    def check(self, addresses: list[Address]) -> None:
        """Refuse a pattern that matches no address of the program."""
        if callable(self.chosen):
            return
        for pattern in self.chosen:
            if not any(matches(pattern, address) for address in addresses):
                known = [show(address) for address in addresses]
                raise UnknownAddress(
                    f"`using` names {pattern!r}, but the program has no such choice; it has "
                    f"{', '.join(map(repr, known)) or 'none'}.{nearest(pattern, known)}"
                )


def _flatten(using: Using) -> tuple[tuple[Any, ...], Any]:
    # JAX sorts the keys of a dictionary, but here the first pattern that matches decides.
    if callable(using.chosen):
        return (), using.chosen
    return tuple(using.chosen.values()), tuple(using.chosen)


def _unflatten(aux: Any, estimators: tuple[Any, ...]) -> Using:
    return Using(aux if callable(aux) else dict(zip(aux, estimators, strict=True)))


jax.tree_util.register_pytree_node(Using, _flatten, _unflatten)
