"""Guides that are one law over all latent choices together, as a vector of real numbers."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any, override

from ppl.errors import UnsupportedProgram
from ppl.guides.family import Family
from ppl.measure import Measure
from ppl.transported import Diffeomorphism, Transported
from ppl.unconstrained import Unconstrained, unconstrained


class OverVector(Family):
    """A guide whose parameters are those of a law over the vector of `ppl.unconstrained(target)`.

    Attributes:
        latent: that vector; `latent.names` says which entry is which.
    """

    @cached_property
    def latent(self) -> Unconstrained:
        """The vector of latent choices."""
        latent = unconstrained(self.target, _WAY_OUT)
        if not latent.size:
            raise UnsupportedProgram(f"{self.target!r} has no latent choice to make a guide of.")
        return latent

    @abstractmethod
    def law(self, params: Any) -> Any:
        """The NumPyro distribution over the vector, before `transform`."""

    def transform(self, params: Any) -> Diffeomorphism | None:
        """What carries a draw of the law to the vector; nothing by default."""
        return None

    @override
    def measure(self, params: Any) -> Measure:
        return Transported(self.latent, self.law(params), self.transform(params), name=self.name)

    @property
    def name(self) -> str:
        """The guide's name, for messages."""
        return type(self).__name__


_WAY_OUT = (
    "condition on it, sum it out, or use a guide with a distribution for each choice "
    "(`ppl.guides.MeanField`, `ppl.guides.ASVI`)."
)
