"""Making a random choice in the program that is being staged, and choosing its estimator from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from ppl.address import Address, matches, nearest, show
from ppl.distributions.density import support_values
from ppl.errors import EstimatorNotAdmitted, UnknownAddress
from ppl.estimators.protocol import Contribution, Estimator
from ppl.estimators.registry import candidates, check_admitted, default_estimator
from ppl.noise import Noise
from ppl.site import UNNAMED, Site, sample_p


def choose(family: str, distribution: Any, estimator: Any, address: Address | None, source: str) -> Any:
    """Make one random choice; `address` is `None` for one that is not recorded."""
    site, leaves = described(family, distribution, estimator, address, source)
    return sample_p.bind(*leaves, site=site)


def described(
    family: str, distribution: Any, estimator: Any, address: Address | None, source: str
) -> tuple[Site, list[jax.Array]]:
    """The record of a random choice, and its operands."""
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
    return site, [jnp.asarray(leaf) for leaf in leaves]


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


class Policy(Protocol):
    """What chooses estimators knowing which ones there are: any object with this method.

    Example:
        >>> import jax, ppl
        >>> from ppl.estimators import MeasureValued, Reinforce
        >>> class WeakElseScored:
        ...     def estimator_for(self, address, family, admissible):
        ...         weak = [e for e in admissible if isinstance(e, MeasureValued)]
        ...         return weak[0] if weak else Reinforce(baseline="loo")
        >>> @ppl.expectation
        ... def objective(mean):
        ...     return ppl.normal(mean, 1.0) @ "x" + 0.0
        >>> chosen = objective.using(WeakElseScored())
        >>> float(chosen.grad(jax.random.key(0), 0.0, num_samples=1000).round(1))
        1.0
    """

    def estimator_for(self, address: str, family: str, admissible: tuple[Estimator, ...]) -> Estimator | None:
        """The estimator of a choice, or `None` to keep the one that is there.

        Args:
            address: with slashes; `"<draw>"` for one without.
            family: the family's name.
            admissible: the unbiased estimators that exist for the choice and need no arguments.
        """


class Using:
    """Estimators chosen from outside: by a mapping, by a function, or by a policy.

    - A mapping goes from what picks out choices to estimators; the first entry that applies decides. A string
      is a shell-style pattern over the slash-joined address (`"layers/*/z"`), a function a predicate
      `(address, family) -> bool`.
    - A function `(address, family)` returns an estimator, or `None` to keep the one that is there.
    - An object with a method `estimator_for` is asked, see `Policy`.

    It is hashed by its content, so that compiled methods are found again.

    Raises:
        TypeError: `chosen` is none of these.
    """

    def __init__(self, chosen: Any) -> None:
        if not (isinstance(chosen, Mapping) or callable(chosen) or hasattr(chosen, "estimator_for")):
            raise TypeError(
                "`using` takes a mapping from address patterns to estimators, a function of (address, "
                f"family), or a policy with a method `estimator_for`, got {chosen!r}. For one estimator at "
                "every choice write {'*': estimator}."
            )
        self.chosen = chosen

    def __call__(self, site: Site, distribution: Any) -> Any:
        """The estimator for a choice, or `None`."""
        chosen = self.chosen
        if isinstance(chosen, Mapping):
            return next((e for key, e in chosen.items() if _applies(key, site)), None)
        if hasattr(chosen, "estimator_for"):
            admissible = candidates(distribution, site.support)
            return chosen.estimator_for(show(site.address), site.family, admissible)
        return chosen(show(site.address), site.family)

    def check(self, sites: Sequence[Site]) -> None:
        """Refuse a pattern or predicate that applies to no choice of the program."""
        if not isinstance(self.chosen, Mapping):
            return
        for key in self.chosen:
            if not any(_applies(key, site) for site in sites):
                known = list(dict.fromkeys(show(site.address) for site in sites))
                hint = nearest(key, known) if isinstance(key, str) else ""
                raise UnknownAddress(
                    f"`using` names {_words(key)}, but the program has no such choice; it has "
                    f"{', '.join(map(repr, known)) or 'none'}.{hint}"
                )

    def __hash__(self) -> int:
        leaves, tree = jax.tree.flatten(self)
        return hash((tree, *leaves))  # a TypeError where an estimator holds an array

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Using):
            return False
        (mine, tree), (theirs, other_tree) = jax.tree.flatten(self), jax.tree.flatten(other)
        # JAX (0.11) calls the structures of two empty dataclasses equal; their hashes differ.
        same = hash(tree) == hash(other_tree) and tree == other_tree
        return same and all(map(_same, mine, theirs))


def _applies(key: Any, site: Site) -> bool:
    if callable(key):
        return bool(key(show(site.address), site.family))
    return matches(key, site.address)


def _words(key: Any) -> str:
    return f"the choices of {getattr(key, '__qualname__', key)}" if callable(key) else repr(key)


def _same(one: Any, other: Any) -> bool:
    # Numbers of other types are other programs; arrays are the same if they are one.
    return one is other or (type(one) is type(other) and isinstance(one, (int, float, str)) and one == other)


def layered(layers: Sequence[Using]) -> Callable[[Site, Any], tuple[Any, dict[str, Any]]]:
    """The estimator of a choice under layers of `Using`, of which the last that chooses decides.

    Returns:
        As `Rebind` wants it, `(site, (distribution, estimator)) -> (estimator, changes to the site)`.
    """

    def reestimate(site: Site, made: Any) -> tuple[Any, dict[str, Any]]:
        distribution, estimator = made
        chosen = None
        for layer in layers:
            chosen = layer(site, distribution) or chosen
        return (estimator, {}) if chosen is None else _chosen(site, chosen, distribution)

    return reestimate


def _chosen(site: Site, estimator: Any, distribution: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(estimator, Estimator):
        estimator = estimator.prepare(site.support)
    check_admitted(estimator, distribution, site.where)
    made = shapes(distribution, estimator)
    if made.value.dtype != site.dtype:
        raise EstimatorNotAdmitted(
            f"{type(estimator).__name__}, chosen from outside for {site.where}, makes a value of dtype "
            f"{made.value.dtype}, but the program around it was staged for a value of dtype {site.dtype}. "
            f"Choose it where the choice is made, `{site.family}(...).using({estimator.usage})`, or make the "
            "choice a ppl.families.one_hot_categorical, whose values are floats under every estimator."
        )
    return estimator, needs(estimator, made)


# A mapping's first entry that applies decides, so its order is kept; JAX sorts the keys of a dictionary.
def _flatten(using: Using) -> tuple[tuple[Any, ...], Any]:
    if isinstance(using.chosen, Mapping):
        return tuple(using.chosen.values()), tuple(using.chosen)
    return (), using.chosen


def _unflatten(aux: Any, estimators: tuple[Any, ...]) -> Using:
    return Using(dict(zip(aux, estimators, strict=True)) if isinstance(aux, tuple) else aux)


jax.tree_util.register_pytree_node(Using, _flatten, _unflatten)
