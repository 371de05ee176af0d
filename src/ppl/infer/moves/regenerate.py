"""Drawing some choices anew from the program, and accepting or not."""

from __future__ import annotations

from typing import Any, override

import jax

from ppl.address import Address
from ppl.choices import Choices
from ppl.infer.moves.metropolis import metropolis
from ppl.infer.moves.move import Density, Info, Kernel, Move, accepted


@jax.tree_util.register_static
class Regenerate(Move):
    """A Metropolis-Hastings step that draws some choices anew from the program; reversible.

    A proposal `x'` keeps the other choices, and draws those that only another branch makes, lane by lane. It
    is accepted with probability `min(1, gamma(x') q(x | x') / (gamma(x) q(x' | x)))`, where `q` is the
    density of what is drawn. It needs no derivatives, and may change how many choices there are.

    Whether it is accepted is a choice at `"accept"`, scored if not chosen otherwise: derivatives go through.

    Args:
        addresses: of the choices, or what they begin with.

    Raises:
        UnknownAddress, UnusedChoice: the program has no choice there, or it is observed.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     rain = ppl.flip(0.2) @ "rain"
        ...     ppl.flip(jax.numpy.where(rain, 0.9, 0.1)) @ "wet"
        >>> move = ppl.infer.Regenerate("rain")
        >>> found = ppl.infer.chains(model().condition({"wet": True}), move, key=jax.random.key(0))
        >>> float(found.mean(lambda choices: 1.0 * choices["rain"]).round(1))  # 0.18 / 0.26
        0.7

    Reference: Wingate, Stuhlmüller, Goodman, "Lightweight implementations of probabilistic programming
    languages via transformational compilation", 2011.
    """

    def __init__(self, *addresses: str | Address) -> None:
        if not addresses:
            raise ValueError("Regenerate needs at least one address, got none")
        self.addresses = addresses

    def __repr__(self) -> str:
        return f"Regenerate({', '.join(map(repr, self.addresses))})"

    def __hash__(self) -> int:
        return hash((Regenerate, self.addresses))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Regenerate) and self.addresses == other.addresses

    @override
    def start(self, density: Density, choices: Choices) -> Kernel:
        def step(state: tuple[Choices, jax.Array]) -> tuple[Any, Info]:
            before, score = state
            found = density.program.redrawn(density.observed, before, self.addresses)
            proposed = density.log_density(found.choices)
            ratio = proposed - found.forward - (score - found.backward)
            decision = metropolis(ratio, score)
            return decision.of((found.choices, proposed), state), accepted(decision.chance)

        return Kernel((choices, density.log_density(choices)), step, lambda state: state[0])

    @property
    @override
    def reversed(self) -> Regenerate:
        return self
