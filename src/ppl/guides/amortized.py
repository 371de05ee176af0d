"""One network in place of the parameters of a guide for each datum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ppl.errors import ChoiceShapeError, UnsupportedProgram
from ppl.guides.family import Family
from ppl.guides.mean_field import MeanField
from ppl.measure import Measure
from ppl.source import user_line


class Amortized:
    """A guide of each datum's latent choices, whose parameters a network computes from the datum.

        q(x | y; phi) = q(x; start + network(phi, y))

    for a ready-made family `q(x; .)`. What is trained are the parameters of the network, which all data
    share. Map over data by `jax.vmap`: each has a guide of its own.

    Args:
        target: from a datum to what its guide is of, a conditioned program. A datum may be several arguments.
        network: from parameters and a datum to one vector of `family(datum).size` numbers, in the order of
            `Family.unravel`. Any function: of Equinox, Flax, or by hand.
        family: a ready-made guide, or a function from a target to one: `lambda t: LowRank(t, rank=2)`.
        start: parameters of the family, to which the network's are added, such as
            `family(datum).initial(key)`. Where the network begins near zero, its guides begin there.

    Raises:
        TypeError: `target` or `network` is no function, or `target` returns no measure.
        ChoiceShapeError: the network puts out another number of numbers.
        UnsupportedProgram: what the family raises of the target.

    Example:
        >>> import jax, jax.numpy as jnp, optax, ppl
        >>> @ppl.gen
        ... def datum():
        ...     z = ppl.normal(0.0, 1.0) @ "z"
        ...     ppl.normal(2.0 * z, 1.0) @ "y"
        >>> guide = ppl.guides.Amortized(
        ...     lambda y: datum().condition({"y": y}), lambda phi, y: phi["weights"] * y + phi["bias"]
        ... )
        >>> size = guide.family(0.0).size  # a mean and a log standard deviation
        >>> phi = {"weights": jnp.zeros(size), "bias": jnp.zeros(size)}
        >>> bound = lambda phi, y: ppl.sticking_the_landing(guide.target(y), guide(phi, y))
        >>> objective = ppl.expectation(
        ...     lambda phi, rows: ppl.scaled(lambda y: bound(phi, y), rows, total=200)
        ... )
        >>> rows = 5**0.5 * jax.random.normal(jax.random.key(0), (200,))
        >>> phi = ppl.fit(
        ...     objective, phi, optax.adam(0.02), key=jax.random.key(1), steps=500, data=rows, batch_size=100,
        ...     progress=False,
        ... ).params
        >>> float(phi["weights"][0].round(1)), float(jnp.exp(phi["bias"][1]).round(2))  # 2 / 5, 1 / sqrt(5)
        (0.4, 0.45)

    References: Kingma, Welling, "Auto-encoding variational Bayes", 2014; Gershman, Goodman, "Amortized
    inference in probabilistic reasoning", 2014.
    """

    def __init__(
        self,
        target: Callable[..., Measure],
        network: Callable[..., Any],
        family: Callable[[Measure], Family] = MeanField,
        start: Any = None,
    ) -> None:
        for name, given in (("target", target), ("network", network), ("family", family)):
            if not callable(given):
                raise TypeError(f"Amortized takes a function for its {name}, got {given!r} ({user_line()})")
        self.target, self.network, self.start = target, network, start
        self._family = family

    def family(self, *datum: Any) -> Family:
        """The guide of one datum before its parameters are known: its `size`, its `initial`."""
        target = self.target(*datum)
        if not isinstance(target, Measure):
            raise TypeError(f"the target of an amortized guide is a measure, got {target!r} ({user_line()})")
        return self._family(target)

    def __call__(self, params: Any, *datum: Any) -> Measure:
        """The guide of this datum, with these parameters of the network."""
        family = self.family(*datum)
        vector = jnp.asarray(self.network(params, *datum))
        if vector.shape != (family.size,):
            raise ChoiceShapeError(
                f"the network of an amortized guide returned an array of shape {vector.shape}; {family!r} "
                f"has {family.size} parameters ({user_line()}). Let it put out one vector of that size."
            )
        return family(family.unravel(vector if self.start is None else vector + self._offset(family)))

    def _offset(self, family: Family) -> jax.Array:
        if jax.tree.map(jnp.shape, self.start) != jax.tree.map(jnp.shape, family.blank):
            raise UnsupportedProgram(
                f"the start of an amortized guide is not of the parameters of {family!r} ({user_line()}). "
                "Take it from `family(datum).initial(key)`."
            )
        return ravel_pytree(self.start)[0]
