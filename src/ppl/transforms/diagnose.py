"""Which number of a run is the first that is not finite: a draw, or a log density."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.noise import Token
from ppl.site import Site, sample_p
from ppl.transforms import jax_internals as internals
from ppl.transforms.gradient import inner_expectation
from ppl.transforms.interpret import Outcome, Rule, total_dtype, walk
from ppl.transforms.naming import CHOICES, Name
from ppl.transforms.position import Here, start
from ppl.transforms.run import simulate_choice
from ppl.transforms.tag import tag_p


def _watched(jaxpr: Any) -> Iterator[Any]:
    """Every choice and every log density of a program, in program order."""
    for equation in jaxpr.eqns:
        if equation.primitive is sample_p or equation.primitive is tag_p:
            yield equation
        for inner in internals.nested(equation):
            yield from _watched(inner)


class _Watch(Rule):
    """A run that counts, for each equation that is watched, how many of its numbers are not finite."""

    kinds = CHOICES | {tag_p}
    totals = ("nonfinite",)

    def __init__(self, watched: Sequence[Any]) -> None:
        self.size = len(watched)
        # An equation of a shared jaxpr is met more than once, and counted in one place.
        self.draws = {id(e.params["site"]): i for i, e in enumerate(watched) if e.primitive is sample_p}
        self.scores = {id(e): i for i, e in enumerate(watched) if e.primitive is tag_p}

    @override
    def zeros(self) -> dict[str, Any]:
        return {"nonfinite": jnp.zeros(self.size, total_dtype())}

    def _count(self, index: int, value: Any) -> dict[str, Any]:
        bad = jnp.sum(~jnp.isfinite(value)).astype(total_dtype())
        return {"nonfinite": jnp.zeros(self.size, total_dtype()).at[index].set(bad)}

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        value = simulate_choice(name, site, operands, here)
        return Outcome(value, self._count(self.draws[id(site)], value))

    @override
    def expect(self, name: Name, equation: Any, operands: list[Any], here: Here) -> list[Any]:
        return [inner_expectation(equation, operands, name, here, 0)]

    @override
    def other(self, equation: Any, operands: list[Any], here: Here) -> tuple[list[Any], dict[str, Any]]:
        return list(operands), self._count(self.scores[id(equation)], operands[0])


def first_nonfinite(jaxpr: Any, arguments: Sequence[Any], key: jax.Array, num_samples: int) -> str | None:
    """The first draw or log density of the runs of `key` that is not finite, in words, if there is one.

    Choices that a derived program sums over are drawn here; a value that is met with probability zero, or
    only in the sum, is not seen.
    """
    watched = list(_watched(jaxpr))
    if not watched:
        return None
    rule = _Watch(watched)

    def run(own: Any) -> Any:
        token = Token(own)
        return walk(jaxpr, arguments, rule, start(key, token, jaxpr=jaxpr)).totals["nonfinite"]

    if num_samples == 1:
        counts = jax.jit(run)(False)
    else:
        counts = jnp.sum(jax.jit(jax.vmap(run))(jnp.zeros(num_samples, bool)), axis=0)
    for equation, count in zip(watched, counts.tolist(), strict=True):
        if count:
            return _words(equation, int(count))
    return None


def _words(equation: Any, count: int) -> str:
    times = "" if count == 1 else f", {count} times in this run"
    if equation.primitive is sample_p:
        return f"the draw of {equation.params['site'].where} is not finite{times}"
    return f"the log density of {equation.params['name']!r} is not finite{times}"
