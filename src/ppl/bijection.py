"""From real numbers to the support of a choice, by NumPyro's bijections."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from numpyro.distributions import biject_to

from ppl.errors import UnsupportedProgram
from ppl.site import Site


def bijection(site: Site, distribution: Any, hint: str) -> Any:
    """The bijection from real arrays to the support of a choice.

    Args:
        site: the choice.
        distribution: of one lane.
        hint: the way out, where there is none.

    Raises:
        UnsupportedProgram: the choice is discrete, or NumPyro has no bijection to its support.
    """
    if not jnp.issubdtype(site.dtype, jnp.floating):
        raise UnsupportedProgram(
            f"the choice {site.where} is discrete, and no real number stands for it: {hint}"
        )
    try:
        return biject_to(distribution.support)
    except NotImplementedError as error:
        raise UnsupportedProgram(
            f"NumPyro has no bijection to the support of {site.where}: {hint}"
        ) from error
