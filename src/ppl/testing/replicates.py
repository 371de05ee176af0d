"""The replicates of simulation-based calibration: a truth, its data, draws of the posterior, and ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppl.address import show
from ppl.choices import Choices
from ppl.measure import Measure
from ppl.testing.quantities import Quantities, Split, rank


class Replicates(NamedTuple):
    """What is repeated.

    Attributes:
        quantities: the model and what is looked at.
        posterior: `(key, data)` to a measure, one draw, or `draws` draws.
        draws: draws of each posterior.
    """

    quantities: Quantities
    posterior: Callable[[jax.Array, Choices], Any]
    draws: int

    def vectorized(self, keys: jax.Array, batch_size: int) -> np.ndarray:
        """The ranks of all replicates in one compiled loop; shape `(N, Q)`."""

        def one(key: jax.Array) -> jax.Array:
            truth_key, posterior_key, rank_key = jax.random.split(key, 3)
            choices = self.quantities.model.simulate(truth_key).choices
            data = self.quantities.split.data(choices)
            found = self.posterior(posterior_key, data)
            again = lambda keys: jax.vmap(lambda key: self.posterior(key, data))(keys)
            return self._ranks(rank_key, choices, self._drawn(found, posterior_key, again))

        return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=batch_size))(keys))

    def one_by_one(self, keys: jax.Array) -> np.ndarray:
        """The ranks of all replicates, with a posterior that is called as plain Python; shape `(N, Q)`."""
        ranks = jax.jit(self._ranks)
        simulate = jax.jit(lambda key: self.quantities.model.simulate(key).choices)
        found = []
        for key in keys:
            truth_key, posterior_key, rank_key = jax.random.split(key, 3)
            choices = simulate(truth_key)
            data = self.quantities.split.data(choices)

            def again(keys: jax.Array, data: Choices = data) -> Any:
                drawn = [self.posterior(key, data) for key in keys]
                return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)

            first = self.posterior(posterior_key, data)
            found.append(np.asarray(ranks(rank_key, choices, self._drawn(first, posterior_key, again))))
        return np.stack(found)

    def _drawn(self, found: Any, key: jax.Array, again: Callable[[jax.Array], Any]) -> Choices:
        """Draws along a first axis, from whichever of the three the posterior has returned."""
        keys = jax.random.split(jax.random.fold_in(key, 1), self.draws)
        if isinstance(found, Measure):
            found = jax.vmap(found.simulate)(keys).choices
            return checked(found, self.quantities.split, self.draws)[0]
        choices, single = checked(found, self.quantities.split, self.draws)
        return checked(again(keys), self.quantities.split, self.draws)[0] if single else choices

    def _ranks(self, key: jax.Array, choices: Choices, drawn: Choices) -> jax.Array:
        split = self.quantities.split
        data, truth = split.data(choices), split.parameters(choices)
        same, ties = jax.random.split(key)
        values = lambda parameters: self.quantities.values(same, parameters, data)
        return rank(ties, values(truth), jax.vmap(values)(drawn))


def checked(found: Any, split: Split, draws: int) -> tuple[Choices, bool]:
    """The posterior's choices, and whether they are one draw.

    Raises:
        TypeError: no choices at all.
        ValueError: other addresses or shapes than those of the parameters.
    """
    if not isinstance(found, Mapping):
        raise TypeError(
            "posterior(key, data) returns a measure, or choices: a dictionary from address to array. It "
            "returned "
            f"{type(found).__name__}."
        )
    choices = Choices(found)
    given, wanted = {address for address, _ in choices.leaves()}, set(split.addresses)
    if given != wanted:
        words = lambda addresses: ", ".join(sorted(repr(show(a)) for a in addresses)) or "none"
        raise ValueError(
            f"the posterior draws {words(given)}, but the parameters of the model are {words(wanted)}: "
            f"missing {words(wanted - given)}, too many {words(given - wanted)}. Data are named by observed=."
        )
    singles = set()
    for address, shape in zip(split.addresses, split.shapes, strict=True):
        got = tuple(jnp.shape(choices[address]))
        if got not in (shape, (draws, *shape)):
            raise ValueError(
                f"the posterior's {show(address)!r} has shape {got}. One draw has shape {shape}; "
                f"draws={draws} "
                f"of them have {(draws, *shape)}."
            )
        singles.add(got == shape)
    if len(singles) > 1:
        raise ValueError("the posterior returned one draw of some parameters and several of others.")
    return choices, singles.pop()
