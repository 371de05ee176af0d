"""What estimators of a finite support share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, override

import jax
import jax.numpy as jnp

from ppl.distributions.density import support_values
from ppl.distributions.masses import indicator, is_masked, masses
from ppl.distributions.sampling import draw
from ppl.estimators.protocol import Estimator
from ppl.noise import Noise


class Drawn(NamedTuple):
    """A draw, and the table it is from.

    Attributes:
        value: shape `(*b, *e)`.
        place: where it stands in the table; shape `(K, *b)`.
        support: the values, in the dtype of the draw; shape `(K, *e)`.
        masses: their probabilities, which move with the parameters; shape `(K, *b)`.
    """

    value: Any
    place: Any
    support: Any
    masses: Any


@dataclass(frozen=True)
class FiniteEstimator(Estimator):
    """An estimator that needs the table of a finite support.

    Attributes:
        support: the values of one instance, shape `(K, *event)`; filled in where the choice is made.
    """

    support: Any = field(default=None, repr=False, kw_only=True)

    @override
    def admits(self, distribution: Any) -> bool:
        """Families whose support is finite and known when the program is staged, if nothing is masked."""
        known = self.support is not None or support_values(distribution) is not None
        return known and not is_masked(distribution)

    @override
    def prepare(self, support: Any) -> Estimator:
        """Keep the support: its bounds may be parameters, which are concrete only where they are made."""
        return replace(self, support=support)

    def _draw(self, distribution: Any, noise: Noise) -> Drawn:
        value = jax.lax.stop_gradient(draw(jax.tree.map(jax.lax.stop_gradient, distribution), noise))
        known = support_values(distribution) if self.support is None else self.support
        support = jnp.asarray(known).astype(value.dtype)
        return Drawn(value, indicator(value, support), support, masses(distribution, support))
