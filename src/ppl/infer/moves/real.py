"""Moves in unconstrained space, by BlackJAX."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, override

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ppl.address import Address
from ppl.choices import Choices
from ppl.errors import UnsupportedProgram
from ppl.families import normal
from ppl.given import selected
from ppl.infer.moves.key import fresh_key
from ppl.infer.moves.move import Density, Info, Kernel, Move
from ppl.unconstrained import Unconstrained, inert, unconstrained
from ppl.undifferentiated import undifferentiated


class Real(NamedTuple):
    """Latent choices of a density as a real vector, the others held fixed.

    Entries of what is not made have a standard normal law of their own.
    """

    density: Density
    latent: Unconstrained
    rest: Choices

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.latent.size

    def vector(self, moving: Choices) -> jax.Array:
        """Inside a program: the vector of choices; entries of what is not made are drawn."""
        start = self.latent.moved_back(moving)
        if not self.latent.conditional:
            return start.vector
        blank = normal(jnp.zeros_like(start.vector), 1.0).propose().retval
        return jnp.where(start.made, start.vector, blank)

    def log_density(self, vector: jax.Array) -> jax.Array:
        """Of a vector, with the change of variables."""
        moved = self.latent.moved(vector)
        total = self.density.log_density(self.rest | moved.choices) + moved.log_det
        return (total + inert(vector, moved.made)).astype(vector.dtype)

    def choices(self, vector: jax.Array) -> Choices:
        """All latent choices."""
        moved, _ = self.latent.constrain(vector)
        kinds = {address: slot.item.site.dtype for address, slot in self.latent.slots.items()}
        return self.rest | {address: x.astype(kinds[address]) for address, x in moved.leaves()}


def real(
    density: Density, choices: Choices, only: tuple[str | Address, ...], what: str
) -> tuple[Real, Choices]:
    """The choices that move as a vector, and these choices.

    Raises:
        UnknownAddress: the target has no latent choice at an address.
        UnsupportedProgram: a choice that moves is discrete; or one that does not is made in some runs only.
    """
    if not only:
        return Real(density, unconstrained(density.target), Choices()), choices
    moving = selected(choices, only, density.target, f"{what} moves")
    rest = choices.without(*(address for address, _ in moving.leaves()))
    latent = unconstrained(density.target.condition(rest))
    _check_fixed(density, rest, what)
    return Real(density, latent, rest), moving


def _check_fixed(density: Density, rest: Choices, what: str) -> None:
    """Refuse to hold fixed what another branch might make: it has no value there."""
    everything = density.program.stage().choices
    for address, _ in rest.leaves():
        items = everything[address]
        if any(item.branches or item.site.masked for item in items):
            raise UnsupportedProgram(
                f"{what} holds {items[0].site.where} fixed, which is made in some runs only: where a moved "
                "choice changes the branch it has no value. Move it along, or draw both anew by Regenerate."
            )


class RealMove(Move):
    """A reversible move of real vectors, by a kernel of BlackJAX.

    Attributes:
        only: the addresses of the choices that move, or what they begin with; all if there is none.
    """

    only: tuple[str | Address, ...]

    def __post_init__(self) -> None:
        only: Any = self.only
        object.__setattr__(self, "only", (only,) if isinstance(only, str) else tuple(only))

    @abstractmethod
    def algorithm(self, log_density: Any, size: int) -> Any:
        """The kernel, as BlackJAX has it: `init(position)`, `step(key, state) -> (state, info)`."""

    @property
    @override
    def reversed(self) -> RealMove:
        return self

    @override
    def start(self, density: Density, choices: Choices) -> Kernel:
        name = type(self).__name__
        why = _why(name, density)
        move, choices = refusing((self, choices), why)
        here, moving = real(density, choices, self.only, name)
        kernel = move.algorithm(here.log_density, here.size)
        # The density's value moves with whatever the density depends on.
        state = undifferentiated(kernel.init(here.vector(moving)), why)

        def step(state: Any) -> tuple[Any, Info]:
            state, info = kernel.step(fresh_key(), state)
            divergent = getattr(info, "is_divergent", False)
            return state, Info(jnp.asarray(info.acceptance_rate), jnp.asarray(divergent))

        return Kernel(state, step, lambda state: here.choices(state.position))


def _why(name: str, density: Density) -> str:
    return (
        f"{name} accepts or rejects moves of the choices of {density.name}, which jumps where what they "
        "depend on moves: the derivative would be biased. Pass what they depend on as an argument that no "
        "derivative is taken of (argnums), or move by Regenerate, whose acceptance is scored."
    )


def refusing(tree: Any, why: str) -> Any:
    """The same arrays, those that are traced refusing derivatives."""
    return jax.tree.map(lambda x: undifferentiated(x, why) if isinstance(x, Tracer) else x, tree)
