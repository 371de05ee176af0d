"""A normal whose covariance is diagonal but for a few directions."""

from __future__ import annotations

from typing import Any, override

import jax
import jax.numpy as jnp
import numpyro.distributions as npd

from ppl.guides.family import blank_of
from ppl.guides.over_vector import OverVector
from ppl.measure import Measure
from ppl.source import user_line


class LowRank(OverVector):
    """A normal over all latent choices, its covariance diagonal but for a few directions.

        z ~ N(loc, W W' + diag(D)),    choices = constrain(z)

    with `z` the vector of `ppl.unconstrained(target)` and `W` of `rank` columns. `d` latent numbers have `d
    (rank + 2)` parameters; a step costs `O(d rank^2 + rank^3)`. Between `MeanField` (rank zero) and
    `FullRank`, for many choices of which a few combinations are correlated.

    Args:
        target: a conditioned program, or one without observations.
        rank: the number of directions, at least one.

    Parameters are `{"loc": (d,), "factor": (d, rank), "log_diagonal": (d,)}`; `guide.law(params)` is the
    normal.

    Raises:
        UnsupportedProgram: a latent choice is discrete, or has an estimated density.
        ValueError: a rank less than one.

    Example:
        >>> import jax, jax.numpy as jnp, ppl
        >>> model = ppl.gen(lambda: ppl.normal(jnp.zeros(100), 1.0) @ "x")
        >>> guide = ppl.guides.LowRank(model(), rank=2)
        >>> guide.size, ppl.guides.FullRank(model()).size
        (400, 5150)

    Reference: Ong, Nott, Smith, "Gaussian variational approximation with a factor covariance structure",
    2018.
    """

    def __init__(self, target: Measure, rank: int) -> None:
        if isinstance(rank, bool) or not isinstance(rank, int):
            raise TypeError(f"the rank of LowRank is a Python integer, got {rank!r} ({user_line()})")
        if rank < 1:
            raise ValueError(f"LowRank has at least one direction, got rank {rank} ({user_line()})")
        self.rank = rank
        super().__init__(target)

    @property
    def blank(self) -> dict[str, Any]:
        """Shapes and dtypes of the parameters."""
        size = self.latent.size
        return {
            "loc": blank_of((size,)),
            "factor": blank_of((size, self.rank)),
            "log_diagonal": blank_of((size,)),
        }

    @override
    def law(self, params: dict[str, Any]) -> npd.LowRankMultivariateNormal:
        return npd.LowRankMultivariateNormal(params["loc"], params["factor"], jnp.exp(params["log_diagonal"]))

    @override
    def _start(self, key: jax.Array, radius: jax.Array, scale: float) -> dict[str, Any]:
        blank, keys = self.blank, jax.random.split(key)
        loc, factor = blank["loc"], blank["factor"]
        # At a factor of zero its derivative is zero too.
        small = 0.5 * scale / self.rank**0.5
        return {
            "loc": jax.random.uniform(keys[0], loc.shape, loc.dtype, -radius, radius),
            "factor": small * jax.random.normal(keys[1], factor.shape, factor.dtype),
            "log_diagonal": jnp.full(loc.shape, 2 * jnp.log(scale), loc.dtype),
        }
