"""The Metropolis-adjusted Langevin algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, override

import jax

from ppl.infer.moves.real import RealMove
from ppl.infer.optional import blackjax


@partial(jax.tree_util.register_dataclass, data_fields=["step_size"], meta_fields=["only"])
@dataclass(frozen=True)
class MALA(RealMove):
    """The Metropolis-adjusted Langevin algorithm in unconstrained space: one gradient a step.

    From `x` it proposes `x + s grad log gamma(x) + sqrt(2 s) noise`.

    Args:
        step_size: `s`.
        only: the addresses that move, or what they begin with; the others are held fixed.

    Raises:
        UnsupportedProgram: a choice that moves is discrete; or a derivative is taken through the move.

    Reference: Roberts, Tweedie, "Exponential convergence of Langevin distributions and their discrete
    approximations", 1996.
    """

    step_size: Any
    only: Any = ()

    @override
    def algorithm(self, log_density: Any, size: int) -> Any:
        return blackjax().mala(log_density, self.step_size)
