"""The quantities whose ranks are looked at in simulation-based calibration, and the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppl.address import Address, canonical, nearest, show
from ppl.choices import Choices
from ppl.errors import UnknownAddress
from ppl.measure import Measure

# Draws of the prior that say where a parameter lies and how far it spreads.
_PRIOR_DRAWS = 256

PARAMETER, SQUARE, LIKELIHOOD, PROJECTION, CUSTOM = (
    "parameter", "square", "likelihood", "projection", "custom",
)  # fmt: skip


class Split(NamedTuple):
    """Which choices of a model are data and which are parameters.

    Attributes:
        observed: what the user calls data.
        addresses: of the parameters.
        shapes: of the parameters.
    """

    observed: tuple[Any, ...]
    addresses: tuple[Address, ...]
    shapes: tuple[tuple[int, ...], ...]

    def data(self, choices: Choices) -> Choices:
        """The data among the choices of the model."""
        return choices.select(*self.observed)

    def parameters(self, choices: Choices) -> Choices:
        """The parameters among the choices of the model."""
        return choices.without(*self.observed)

    def flat(self, choices: Any) -> jax.Array:
        """All entries of the parameters, one after another; shape `(D,)`."""
        return jnp.concatenate([jnp.ravel(jnp.asarray(choices[a], float)) for a in self.addresses])

    def names(self) -> list[str]:
        """A name for each of these entries."""
        return [
            show(address) + (str(list(index)).replace(" ", "") if index else "")
            for address, shape in zip(self.addresses, self.shapes, strict=True)
            for index in np.ndindex(*shape)
        ]


def split_of(model: Measure, observed: Any) -> Split:
    """Splits a model's choices.

    Raises:
        UnknownAddress: something called observed is no choice of the model.
        ValueError: nothing is left to be inferred.
    """
    wanted = tuple(observed) if isinstance(observed, list | tuple | set) else (observed,)
    choices = Choices(jax.eval_shape(model.simulate, jax.random.key(0)).choices)
    known = [show(address) for address, _ in choices.leaves()]
    for address in wanted:
        if not list(choices.select(address).leaves()):
            name = show(canonical(address))
            raise UnknownAddress(
                f"observed={name!r} is no choice of {model!r}, which has {', '.join(map(repr, known))}."
                f"{nearest(name, known)}"
            )
    rest = list(choices.without(*wanted).leaves())
    if not rest:
        raise ValueError(
            f"every choice of {model!r} is observed: there is no parameter whose posterior could be wrong. "
            f"Name only the data in observed=, of {', '.join(map(repr, known))}."
        )
    return Split(wanted, tuple(a for a, _ in rest), tuple(tuple(leaf.shape) for _, leaf in rest))


class Quantities(NamedTuple):
    """Functions of parameters and data, evaluated together as a vector; a pytree but for its functions.

    Attributes:
        model: what parameters and data are scored under.
        split: which choices are which.
        mean, scale: of each entry of the parameters under the prior; shape `(D,)`.
        direction: a random unit vector, shape `(D,)`.
        custom: the user's, from name to function of choices and data.
    """

    model: Measure
    split: Split
    mean: jax.Array
    scale: jax.Array
    direction: jax.Array
    custom: Mapping[str, Callable[[Any, Any], Any]]

    def kinds(self) -> list[tuple[str, str]]:
        """Name and kind of each entry of the vector."""
        names = self.split.names()
        found = [(name, PARAMETER) for name in names] + [(f"{name} squared", SQUARE) for name in names]
        found.append(("log likelihood", LIKELIHOOD))
        if len(names) > 1:
            found.append(("projection", PROJECTION))
        return found + [(name, CUSTOM) for name in self.custom]

    def values(self, key: jax.Array, choices: Choices, data: Choices) -> jax.Array:
        """The vector for one set of parameters. The key must be the same for all that are compared."""
        flat = (self.split.flat(choices) - self.mean) / self.scale
        joint = self.model.log_density(data | choices)
        # Where data come last, this is the density of the parameters, and the draw of data is not used.
        prior = self.model.generate(key, choices)[1]
        rest = [jnp.asarray(joint - prior, float)]
        if flat.size > 1:
            rest.append(flat @ self.direction)
        rest += [jnp.asarray(function(choices, data), float) for function in self.custom.values()]
        return jnp.concatenate([flat, flat**2, jnp.stack(rest)])


def quantities_of(
    model: Measure, split: Split, key: jax.Array, custom: Mapping[str, Callable[[Any, Any], Any]]
) -> Quantities:
    """The quantities of a model, centered and scaled by draws of its prior that are used for nothing else."""
    prior_key, direction_key = jax.random.split(key)
    one = lambda key: split.flat(split.parameters(model.simulate(key).choices))
    draws = jax.jit(jax.vmap(one))(jax.random.split(prior_key, _PRIOR_DRAWS))
    draws = jnp.where(jnp.isfinite(draws), draws, 0.0)
    scale = draws.std(0)
    direction = jax.random.normal(direction_key, draws.shape[1:])
    return Quantities(
        model, split, draws.mean(0), jnp.where(scale > 0, scale, 1.0),
        direction / jnp.linalg.norm(direction), custom,
    )  # fmt: skip


def rank(key: jax.Array, truth: jax.Array, draws: jax.Array) -> jax.Array:
    """How many of the draws, along the first axis, lie below the truth, ties in random order.

    It is -1 where one of them is not a number.
    """
    below, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    # As `randint` from 0 to `equal`, but for one block of random bits less.
    tied = jnp.floor(jax.random.uniform(key, truth.shape) * (equal + 1)).astype(equal.dtype)
    found = below + jnp.minimum(tied, equal)
    return jnp.where(jnp.isnan(draws).any(0) | jnp.isnan(truth), -1, found)
