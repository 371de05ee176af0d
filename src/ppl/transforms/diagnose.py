"""Which log density of a run is the first that is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ppl.site import Site
from ppl.transforms.gradient import inner_expectation
from ppl.transforms.interpret import CHOICES, Here, Name, Outcome, Rule, walk
from ppl.transforms.run import simulate_choice
from ppl.transforms.tag import tag_p


class _Found(Exception):
    """Carries the message out of the run."""


class _Watch(Rule):
    """A run that stops at the first log density that is not finite."""

    kinds = CHOICES | {tag_p}

    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        return Outcome(simulate_choice(name, site, operands, here))

    def expect(self, name: Name, equation: Any, operands: list[Any], here: Here) -> list[Any]:
        return [inner_expectation(equation, operands, here.key_of(name), here.token, 0)]

    def other(self, equation: Any, operands: list[Any], here: Here) -> list[Any]:
        (value,) = operands
        finite = jnp.isfinite(value)
        if not jnp.all(finite):
            count = int(jnp.sum(~finite))
            first = value.reshape(-1)[jnp.argmin(finite.reshape(-1))]
            where = f" in {count} of {value.size} lanes" if value.shape else ""
            steps = "".join(f" at step {int(loop.step)}" for loop in here.loops)
            raise _Found(f"the log density of {equation.params['name']!r} is {float(first)}{where}{steps}")
        return [value]


def first_nonfinite(jaxpr: Any, arguments: Sequence[Any], key: jax.Array) -> str | None:
    """Run the program step by step and name the first log density that is not finite, if there is one."""
    with jax.disable_jit():
        try:
            walk(jaxpr, [jnp.asarray(x) for x in arguments], _Watch(), Here(key, count={}))
        except _Found as found:
            return str(found)
    return None
