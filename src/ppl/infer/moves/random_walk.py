"""Random-walk Metropolis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.infer.moves.real import RealMove
from ppl.infer.optional import blackjax


@partial(jax.tree_util.register_dataclass, data_fields=["scale"], meta_fields=["only"])
@dataclass(frozen=True)
class RandomWalk(RealMove):
    """Random-walk Metropolis in unconstrained space: a normal step, accepted or not; needs no derivatives.

    Args:
        scale: standard deviation of the step: a number, or one for each entry of `ppl.unconstrained`.
        only: the addresses that move, or what they begin with; the others are held fixed.

    Raises:
        UnsupportedProgram: a choice that moves is discrete; or a derivative is taken through the move.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 0.1) @ "y"
        >>> algorithm = ppl.infer.Tempered(200, ppl.infer.RandomWalk(0.2), temperatures=8)
        >>> found = ppl.infer.run(model().condition({"y": 2.0}), algorithm, key=jax.random.key(0))
        >>> bool(abs(found.mean(lambda choices: choices["x"]) - 2 / 1.01) < 0.05)
        True

    Reference: Metropolis, Rosenbluth, Rosenbluth, Teller, Teller, "Equation of state calculations by fast
    computing machines", 1953.
    """

    scale: Any
    only: Any = ()

    @override
    def algorithm(self, log_density: Any, size: int) -> Any:
        scale = jnp.broadcast_to(jnp.asarray(self.scale, float), (size,))
        return blackjax().additive_step_random_walk(
            log_density, blackjax("mcmc", "random_walk").normal(scale)
        )
