"""Moves made of moves: one after the other, and one several times."""

from __future__ import annotations

from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.choices import Choices
from ppl.infer.moves.move import Density, Info, Kernel, Move
from ppl.source import user_line


def _check(move: Any) -> Move:
    if not isinstance(move, Move):
        raise TypeError(
            f"a move of ppl.infer is wanted, such as Regenerate('x'), got {move!r} ({user_line()})"
        )
    return move


@jax.tree_util.register_pytree_node_class
class Cycle(Move):
    """Moves one after the other, as in a Gibbs sampler: what they all leave invariant is left invariant.

    It is not reversible, even of reversible moves; its reversal are the reversals in reverse order.

    Args:
        moves: at least one.

    Example:
        >>> import jax, ppl
        >>> move = ppl.infer.Cycle(ppl.infer.Regenerate("x"), ppl.infer.Regenerate("y"))
        >>> move.reversed
        Cycle(Regenerate('y'), Regenerate('x'))
    """

    def __init__(self, *moves: Move) -> None:
        if not moves:
            raise ValueError("Cycle needs at least one move, got none")
        self.moves = tuple(map(_check, moves))

    def __repr__(self) -> str:
        return f"Cycle({', '.join(map(repr, self.moves))})"

    @override
    def start(self, density: Density, choices: Choices) -> Kernel:
        def step(choices: Choices) -> tuple[Choices, Info]:
            infos = []
            for move in self.moves:
                choices, info = move.step(density, choices)
                infos.append(info)
            acceptance = sum(info.acceptance for info in infos) / len(infos)
            divergent = jnp.any(jnp.stack([info.divergent for info in infos]))
            return choices, Info(jnp.asarray(acceptance), divergent)

        return Kernel(choices, step, lambda choices: choices)

    @property
    @override
    def reversed(self) -> Cycle:
        return Cycle(*(move.reversed for move in reversed(self.moves)))

    @override
    def adapted(self, density: Density, choices: Choices, steps: int) -> tuple[Move, Choices]:
        """Each in turn, given where the others have come to; then as many steps of the whole."""
        moves = []
        for move in self.moves:
            move, choices = move.adapted(density, choices, steps)
            moves.append(move)
        return Move.adapted(Cycle(*moves), density, choices, steps)

    def tree_flatten(self) -> tuple[Any, Any]:
        """As a pytree, of the moves."""
        return self.moves, None

    @classmethod
    def tree_unflatten(cls, _: Any, moves: Any) -> Cycle:
        """From the moves."""
        new = object.__new__(cls)
        new.moves = tuple(moves)
        return new


@jax.tree_util.register_pytree_node_class
class Repeat(Move):
    """A move several times, in one loop.

    Args:
        move: the move.
        times: how often, at least once.

    Example:
        >>> import ppl
        >>> ppl.infer.Repeat(ppl.infer.Regenerate("x"), 3)
        Repeat(Regenerate('x'), 3)
    """

    def __init__(self, move: Move, times: int) -> None:
        if isinstance(times, bool) or not hasattr(times, "__index__") or times < 1:
            raise ValueError(f"Repeat takes a Python integer of at least one, got {times!r}")
        self.move, self.times = _check(move), times

    def __repr__(self) -> str:
        return f"Repeat({self.move!r}, {self.times})"

    @override
    def start(self, density: Density, choices: Choices) -> Kernel:
        once = self.move.start(density, choices)

        def step(state: Any) -> tuple[Any, Info]:
            state, infos = jax.lax.scan(lambda state, _: once.step(state), state, None, length=self.times)
            return state, Info(jnp.mean(infos.acceptance), jnp.any(infos.divergent))

        return Kernel(once.state, step, once.choices)

    @property
    @override
    def reversed(self) -> Repeat:
        return Repeat(self.move.reversed, self.times)

    @override
    def adapted(self, density: Density, choices: Choices, steps: int) -> tuple[Move, Choices]:
        move, choices = self.move.adapted(density, choices, steps)
        return Repeat(move, self.times), choices

    def tree_flatten(self) -> tuple[Any, Any]:
        """As a pytree, of the move."""
        return (self.move,), self.times

    @classmethod
    def tree_unflatten(cls, times: Any, moves: Any) -> Repeat:
        """From the move."""
        new = object.__new__(cls)
        (new.move,), new.times = moves, times
        return new
