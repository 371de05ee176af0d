"""Hamiltonian Monte Carlo: with trajectories of fixed length, and until they turn."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, override

import jax
import jax.numpy as jnp

from ppl.choices import Choices
from ppl.infer.moves.key import fresh_key
from ppl.infer.moves.move import Density
from ppl.infer.moves.real import RealMove, real
from ppl.infer.optional import blackjax


class Hamiltonian(RealMove):
    """What the two share: a step size and a mass matrix, which can be adapted."""

    step_size: Any
    inverse_mass_matrix: Any
    acceptance: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.acceptance < 1:
            raise ValueError(f"acceptance lies between zero and one, got {self.acceptance!r}")

    @property
    @abstractmethod
    def further(self) -> dict[str, Any]:
        """The other parameters, as BlackJAX calls them."""

    @property
    @abstractmethod
    def kind(self) -> Any:
        """BlackJAX's algorithm."""

    @override
    def algorithm(self, log_density: Any, size: int) -> Any:
        matrix = jnp.ones(size) if self.inverse_mass_matrix is None else jnp.asarray(self.inverse_mass_matrix)
        return self.kind(log_density, self.step_size, matrix, **self.further)

    @override
    def adapted(self, density: Density, choices: Choices, steps: int) -> tuple[Self, Choices]:
        here, moving = real(density, choices, self.only, type(self).__name__)
        warmup = blackjax().window_adaptation(
            self.kind,
            here.log_density,
            initial_step_size=self.step_size,
            target_acceptance_rate=self.acceptance,
            adaptation_info_fn=_nothing,
            **self.further,
        )
        found, _ = warmup.run(fresh_key(), here.vector(moving), num_steps=steps)
        tuned = {name: found.parameters[name] for name in _DATA}
        return replace(self, **tuned), here.choices(found.state.position)  # pyright: ignore


def _nothing(*_: Any) -> None:
    return None


_DATA = ["step_size", "inverse_mass_matrix"]


@partial(jax.tree_util.register_dataclass, data_fields=_DATA, meta_fields=["steps", "only", "acceptance"])
@dataclass(frozen=True)
class HMC(Hamiltonian):
    """Hamiltonian Monte Carlo in unconstrained space, with trajectories of a fixed number of leapfrog steps.

    Args:
        step_size: of the leapfrog integrator.
        steps: how many make a trajectory, a gradient each.
        inverse_mass_matrix: about the covariance of the target in unconstrained space: a vector for a
            diagonal one, or a matrix. By default the identity.
        only: the addresses that move, or what they begin with; the others are held fixed.
        acceptance: which step size `ppl.infer.chains` adapts to: the one with this mean probability of
            acceptance. Nearer to one the steps are smaller, for a density that is strongly curved somewhere.

    In `ppl.infer.chains` step size and mass matrix are adapted during warmup.

    Raises:
        UnsupportedProgram: a choice that moves is discrete; or a derivative is taken through the move.

    Example:
        >>> import ppl
        >>> ppl.infer.Cycle(ppl.infer.Regenerate("k"), ppl.infer.HMC(0.1, 5, only="x")).reversed.moves[1]
        Regenerate('k')

    Reference: Neal, "MCMC using Hamiltonian dynamics", 2011.
    """

    step_size: Any
    steps: int
    inverse_mass_matrix: Any = None
    only: Any = ()
    acceptance: float = 0.8

    @property
    @override
    def further(self) -> dict[str, Any]:
        return {"num_integration_steps": self.steps}

    @property
    @override
    def kind(self) -> Any:
        return blackjax().hmc


@partial(jax.tree_util.register_dataclass, data_fields=_DATA, meta_fields=["doublings", "only", "acceptance"])
@dataclass(frozen=True)
class NUTS(Hamiltonian):
    """The no-U-turn sampler in unconstrained space: Hamiltonian trajectories that end where they turn.

    Args:
        step_size: of the leapfrog integrator.
        inverse_mass_matrix: about the covariance of the target in unconstrained space: a vector for a
            diagonal one, or a matrix. By default the identity.
        doublings: a trajectory has at most two to this power steps.
        only: the addresses that move, or what they begin with; the others are held fixed.
        acceptance: which step size `ppl.infer.chains` adapts to: the one with this mean probability of
            acceptance. Nearer to one the steps are smaller, for a density that is strongly curved somewhere.

    In `ppl.infer.chains` step size and mass matrix are adapted during warmup. As a move of particles it waits
    for the longest trajectory among them; `HMC` does not.

    Raises:
        UnsupportedProgram: a choice that moves is discrete; or a derivative is taken through the move.

    Reference: Hoffman, Gelman, "The no-U-turn sampler", 2014; Betancourt, "A conceptual introduction to
    Hamiltonian Monte Carlo", 2017 (the draw from a trajectory).
    """

    step_size: Any = 0.1
    inverse_mass_matrix: Any = None
    doublings: int = 10
    only: Any = ()
    acceptance: float = 0.8

    @property
    @override
    def further(self) -> dict[str, Any]:
        return {"max_num_doublings": self.doublings}

    @property
    @override
    def kind(self) -> Any:
        return blackjax().nuts
