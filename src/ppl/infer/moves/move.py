"""What a move is: a Markov kernel that leaves an unnormalized density invariant.

A kernel `K(x, x')` leaves `gamma` invariant if `sum over x of gamma(x) K(x, x') = gamma(x')`. Its reversal is
the kernel `L` with

    gamma(x) K(x, x') = gamma(x') L(x', x),

which is `K` itself for a reversible one, such as every Metropolis-Hastings step. Algorithms that keep a given
particle need it: they draw the particle's past, backwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.choices import Choices
from ppl.errors import UnsupportedProgram
from ppl.joint import joint_p
from ppl.measure import Measure
from ppl.program import Conditioned, Program
from ppl.transforms import jax_internals as internals


@dataclass(frozen=True)
class Density:
    """What a move is to leave invariant.

    Attributes:
        program: makes the choices; a move may ask it for draws.
        observed: those of its choices that are given, and do not move.
        log_density: log of the unnormalized density of the others; exact.
        name: how messages name it.
    """

    program: Program
    observed: Choices
    log_density: Callable[[Choices], jax.Array]
    name: str

    @property
    def target(self) -> Conditioned:
        """The program, given what is observed."""
        return Conditioned(self.program, self.observed)

    def of(self, log_density: Callable[[Choices], jax.Array]) -> Density:
        """The same choices, of another density."""
        return replace(self, log_density=log_density)


class Info(NamedTuple):
    """What a step tells of itself.

    Attributes:
        acceptance: the probability with which it was accepted; the mean, where it is made of several.
        divergent: whether the integration of a trajectory has left the density's support or its energy.
    """

    acceptance: jax.Array
    divergent: jax.Array


class Kernel(NamedTuple):
    """A move of one density from one point on.

    Attributes:
        state: what one step hands to the next.
        step: inside a program, the next state.
        choices: of a state.
    """

    state: Any
    step: Callable[[Any], tuple[Any, Info]]
    choices: Callable[[Any], Choices]


class Move(ABC):
    """A Markov kernel that leaves a density invariant: a value, which is run inside programs."""

    @abstractmethod
    def start(self, density: Density, choices: Choices) -> Kernel:
        """Inside a program: the kernel, at these choices."""

    @property
    @abstractmethod
    def reversed(self) -> Move:
        """The time reversal, itself if the kernel is reversible."""

    def step(self, density: Density, choices: Choices) -> tuple[Choices, Info]:
        """Inside a program: one step."""
        kernel = self.start(density, choices)
        state, info = kernel.step(kernel.state)
        return kernel.choices(state), info

    def adapted(self, density: Density, choices: Choices, steps: int) -> tuple[Move, Choices]:
        """Inside a program: the move with parameters that suit a density, and where it has come to meanwhile.

        By default nothing is adapted, and it makes that many steps.
        """
        kernel = self.start(density, choices)
        state, _ = jax.lax.scan(lambda state, _: kernel.step(state), kernel.state, None, length=steps)
        return self, kernel.choices(state)


def density_of(target: Measure, what: str) -> Density:
    """A target as what moves leave invariant.

    Raises:
        UnsupportedProgram: it is no program, or its density is estimated; `what` asks for it.
    """
    program, observed = (
        (target.program, target.observed) if isinstance(target, Conditioned) else (target, Choices())
    )
    if not isinstance(program, Program):
        raise UnsupportedProgram(
            f"{what} moves the choices of a generative function, conditioned or not, and the target is "
            f"{target!r}, a {type(program).__name__}."
        )
    check_exact(program, what)
    return Density(program, observed, target.log_density, repr(target))


def check_exact(measure: Measure, what: str) -> None:
    """Refuse a measure whose density is itself estimated.

    Raises:
        UnsupportedProgram: it holds a marginal or a normalized measure.
    """
    program = measure.program if isinstance(measure, Conditioned) else measure
    if not isinstance(program, Program):
        return
    staged = program.stage()
    if internals.holds(staged.jaxpr, frozenset({joint_p})):
        items = [item for items in staged.choices.values() for item in items if item.is_joint]
        raise UnsupportedProgram(
            f"{what} compares densities of {program!r}, whose choice {items[0].site.where} has one that is "
            "estimated anew each time, so that nothing would be left invariant. Make what it sums out a "
            "choice of the program, or use ppl.infer.Importance."
        )


def accepted(probability: Any, divergent: Any = False) -> Info:
    """The information of one step."""
    return Info(jnp.asarray(probability), jnp.asarray(divergent))
