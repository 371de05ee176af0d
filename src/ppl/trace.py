"""The record of one run of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trace:
    """One run of a measure; a pytree.

    Attributes:
        choices: what it drew: a `ppl.Choices` for a program, the value itself for a distribution. A
            choice under `jax.vmap` has the lane axis first, one under `jax.lax.scan` the time axis. A
            choice of a branch that was not taken is zero, and does not count in the density.
        log_density: log density of the choices, a scalar of at least float32.
        retval: what the program returned.
        args: the arguments that it was applied to.
    """

    choices: Any
    log_density: jax.Array
    retval: Any
    args: tuple[Any, ...] = ()
