"""Moves in unconstrained space, by BlackJAX."""

from __future__ import annotations

import importlib
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
from ppl.unconstrained import inert, unconstrained
from ppl.undifferentiated import undifferentiated


def blackjax(*names: str) -> Any:
    """BlackJAX, or a module of it, imported on first use.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module(".".join(("blackjax", *names)))
    except ImportError as error:
        raise ImportError("this needs BlackJAX: pip install 'ppl[mcmc]'") from error


class Point(NamedTuple):
    """Choices as a real vector.

    Attributes:
        vector: what moves.
        log_density: of a vector.
        choices: of a vector, with those that do not move.
    """

    vector: jax.Array
    log_density: Any
    choices: Any


def point(density: Density, choices: Choices, only: tuple[str | Address, ...], what: str) -> Point:
    """Inside a program: the choices that move as a vector, the others held fixed.

    Entries of what is not made have a standard normal law of their own: drawn here, and forgotten later.

    Raises:
        UnknownAddress: the target has no latent choice at an address.
        UnsupportedProgram: a choice that moves is discrete; or one that does not is made in some runs only.
    """
    moving = selected(choices, only, density.target, f"{what} moves") if only else choices
    rest = choices.without(*(address for address, _ in moving.leaves()))
    latent = unconstrained(density.target.condition(rest) if rest else density.target)
    if rest:
        _check_fixed(density, rest, what)
    start = latent.moved_back(moving)
    vector = start.vector
    if latent.conditional:
        vector = jnp.where(start.made, vector, normal(jnp.zeros_like(vector), 1.0).propose().retval)

    def log_density(vector: jax.Array) -> jax.Array:
        moved = latent.moved(vector)
        total = density.log_density(rest | moved.choices) + moved.log_det + inert(vector, moved.made)
        return total.astype(vector.dtype)

    def back(vector: jax.Array) -> Choices:
        moved, _ = latent.constrain(vector)
        return rest | jax.tree.map(lambda x, old: x.astype(jnp.result_type(old)), moved, moving)

    return Point(vector, log_density, back)


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
        move, choices = _refusing((self, choices), why)
        here = point(density, choices, self.only, name)
        kernel = move.algorithm(here.log_density, here.vector.shape[0])
        # The density's value moves with whatever the density depends on.
        state = undifferentiated(kernel.init(here.vector), why)

        def step(state: Any) -> tuple[Any, Info]:
            state, info = kernel.step(fresh_key(), state)
            divergent = getattr(info, "is_divergent", False)
            return state, Info(jnp.asarray(info.acceptance_rate), jnp.asarray(divergent))

        return Kernel(state, step, lambda state: here.choices(state.position))


def _why(name: str, density: Density) -> str:
    return (
        f"{name} accepts or rejects moves of the choices of {density.name}, which jumps where what they "
        "depend on moves: the derivative would be biased. Hold fixed what they depend on "
        "(jax.lax.stop_gradient), or move by Regenerate, whose acceptance is scored."
    )


def _refusing(tree: Any, why: str) -> Any:
    return jax.tree.map(lambda x: undifferentiated(x, why) if isinstance(x, Tracer) else x, tree)


def addresses(only: Any) -> tuple[str | Address, ...]:
    """One address or several, as a tuple."""
    return (only,) if isinstance(only, str) else tuple(only)
