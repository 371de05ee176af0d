"""Draws, as differentiable functions of a distribution's parameters and of noise.

Importing this module fills the table of draws; `ppl.distributions.registry` holds the table itself.
"""

from ppl.distributions import (  # noqa: F401  (they fill the table)
    composite,
    discrete,
    explicit,
    implicit,
    mixtures,
    quantiles,
)
from ppl.distributions.registry import draw, draws, is_reparameterized

__all__ = ["draw", "draws", "is_reparameterized"]
