"""Which number of a run is the first that is not finite: a draw, a log density, or a derivative.

Three looks, each only where the one before it saw nothing: at the values of a plain run; at their
derivatives; and at the values of the derived program, whose further runs take values that were not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, override

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from ppl.noise import SAMPLES, Token
from ppl.site import Site, sample_p
from ppl.transforms import jax_internals as internals
from ppl.transforms.gradient import derive, inner_expectation
from ppl.transforms.interpret import Outcome, Rule, total_dtype, walk
from ppl.transforms.naming import CHOICES, Name
from ppl.transforms.one_choice import Rebind, score_choice, simulate_choice
from ppl.transforms.plan import static
from ppl.transforms.position import Here, start
from ppl.transforms.tag import tag_p

_KINDS = (jnp.isnan, jnp.isneginf, jnp.isposinf)


def _watched(jaxpr: Any) -> Iterator[Any]:
    """Every choice and every log density of a program, in program order."""
    for equation in jaxpr.eqns:
        if equation.primitive is sample_p or equation.primitive is tag_p:
            yield equation
        for inner in internals.nested(equation):
            yield from _watched(inner)


class _Look(Rule):
    """A run that makes something of each equation that is watched."""

    kinds = CHOICES | {tag_p}

    def __init__(self, watched: Sequence[Any]) -> None:
        self.size = len(watched)
        # An equation of a shared jaxpr is met more than once, and counted in one place.
        self.draws = {id(e.params["site"]): i for i, e in enumerate(watched) if e.primitive is sample_p}
        self.scores = {id(e): i for i, e in enumerate(watched) if e.primitive is tag_p}

    @override
    def expect(self, name: Name, equation: Any, operands: list[Any], here: Here) -> list[Any]:
        return [inner_expectation(equation, operands, name, here, 0)]


class _Watch(_Look):
    """Counts, for each equation that is watched, how many of its numbers are not finite, by kind."""

    totals = ("nonfinite",)

    @override
    def zeros(self) -> dict[str, Any]:
        return {"nonfinite": jnp.zeros((self.size, len(_KINDS)), total_dtype())}

    def _count(self, index: int, value: Any) -> dict[str, Any]:
        bad = jnp.stack([jnp.sum(kind(value)) for kind in _KINDS]).astype(total_dtype())
        return {"nonfinite": self.zeros()["nonfinite"].at[index].set(bad)}

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        value = simulate_choice(name, site, operands, here)
        return Outcome(value, self._count(self.draws[id(site)], value))

    @override
    def other(self, equation: Any, operands: list[Any], here: Here) -> tuple[list[Any], dict[str, Any]]:
        return list(operands), self._count(self.scores[id(equation)], operands[0])


class _Sum(_Look):
    """Adds up what is watched, to the number `last` inclusive: draws that move, scores, log densities."""

    totals = ("sum",)

    def __init__(self, watched: Sequence[Any], last: int) -> None:
        super().__init__(watched)
        self.last = last

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        value = simulate_choice(name, site, operands, here)
        pathwise = static(site)[1].pathwise and jnp.issubdtype(value.dtype, jnp.floating)
        if not pathwise:
            value = stop_gradient(value)
        if self.draws[id(site)] > self.last:
            return Outcome(value)
        return Outcome(value, {"sum": jnp.sum(value if pathwise else score_choice(site, operands, value))})

    @override
    def other(self, equation: Any, operands: list[Any], here: Here) -> tuple[list[Any], dict[str, Any]]:
        within = self.scores[id(equation)] <= self.last
        return list(operands), {"sum": jnp.sum(operands[0])} if within else {}


class _Spy(_Look):
    """The program again, its log densities reporting to the host whether they are finite."""

    evaluates = False

    def __init__(self, watched: Sequence[Any], report: Callable[..., None]) -> None:
        super().__init__(watched)
        self.report = report
        self.bind = Rebind((), True)

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        return Outcome(self.bind(site, operands, len(here.loops)))

    @override
    def expect(self, name: Name, equation: Any, operands: list[Any], here: Here) -> list[Any]:
        return equation.primitive.bind(*operands, **equation.params)

    @override
    def other(self, equation: Any, operands: list[Any], here: Here) -> tuple[list[Any], dict[str, Any]]:
        index, value = self.scores[id(equation)], operands[0]
        jax.debug.callback(self.report, index, *(jnp.any(kind(value)) for kind in _KINDS))
        return [equation.primitive.bind(value, **equation.params)], {}


def _over(run: Callable[[Any], Any], num_samples: int) -> Any:
    if num_samples == 1:
        return run(False)
    found = jax.vmap(run, axis_name=SAMPLES)(jnp.zeros(num_samples, bool))
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), found)


def first_nonfinite(
    jaxpr: Any, arguments: Sequence[Any], moving: Sequence[bool], key: jax.Array, num_samples: int
) -> str | None:
    """The first draw or log density of the runs of `key` that is not finite, in words, if there is one.

    If all are finite, the first whose derivative in the arguments that are `moving` is not; and if these are
    too, the first log density that is not finite at a value that the derived program sums over.
    """
    watched = list(_watched(jaxpr))
    if not watched:
        return None

    def count(arguments: Sequence[Any], own: Any) -> Any:
        rule, token = _Watch(watched), Token(own)
        return walk(jaxpr, arguments, rule, start(key, token, jaxpr=jaxpr)).totals["nonfinite"]

    counts = jax.jit(lambda arguments: _over(lambda own: count(arguments, own), num_samples))(arguments)
    for equation, found in zip(watched, counts.tolist(), strict=True):
        if any(found):
            return _words(equation, found)
    looks = (_first_slope, _first_elsewhere)
    return next((said for look in looks if (said := look(jaxpr, arguments, moving, key, num_samples))), None)


def _first_slope(
    jaxpr: Any, arguments: Sequence[Any], moving: Sequence[bool], key: jax.Array, num_samples: int
) -> str | None:
    """The first of the watched whose derivative is not finite, by bisection: nan and infinity spread."""
    watched = list(_watched(jaxpr))
    floats = [x for x, move in zip(arguments, moving, strict=True) if move]

    def finite(last: int) -> bool:
        def total(floats: list[Any]) -> Any:
            remaining = iter(floats)
            mixed = [next(remaining) if move else x for x, move in zip(arguments, moving, strict=True)]

            def run(own: Any) -> Any:
                here = start(key, Token(own), jaxpr=jaxpr)
                return walk(jaxpr, mixed, _Sum(watched, last), here).totals["sum"]

            return _over(run, num_samples)

        return all(bool(jnp.isfinite(slope).all()) for slope in jax.jit(jax.grad(total))(floats))

    try:
        low, high = 0, len(watched) - 1
        if not floats or finite(high):
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if finite(middle) else (low, middle)
    except ValueError:  # no reverse mode, as in a loop of unknown length
        return None
    equation = watched[low]
    if equation.primitive is sample_p:
        what = "draw" if static(equation.params["site"])[1].pathwise else "score"
        return f"the {what} of {equation.params['site'].where} is finite, but its derivative is not"
    return f"the log density of {_tag(equation)} is finite, but its derivative is not"


def _first_elsewhere(
    jaxpr: Any, arguments: Sequence[Any], moving: Sequence[bool], key: jax.Array, num_samples: int
) -> str | None:
    """The first log density that is not finite at a value that was not drawn, but summed over or tried."""
    watched, found = list(_watched(jaxpr)), {}

    def report(index: int, *kinds: Any) -> None:
        if any(map(bool, kinds)):
            found[int(index)] = [float(kind) for kind in kinds]

    def spied(*arguments: Any) -> Any:
        return walk(jaxpr, arguments, _Spy(watched, report), start()).outputs

    again = jax.make_jaxpr(spied)(*arguments)

    def derived(arguments: Sequence[Any]) -> Any:
        run = lambda own: derive(again, arguments, key, Token(own), 1, num_samples).value
        return _over(run, num_samples)

    jax.block_until_ready(jax.jit(derived)(arguments))
    jax.effects_barrier()
    if not found:
        return None
    first = min(found)
    kinds = found[first]
    return (
        f"the log density of {_tag(watched[first])} is not finite ({_kind(kinds)}) at a value that was not "
        "drawn, but is summed over, or tried by an estimator"
    )


def _tag(equation: Any) -> str:
    name, detail = equation.params["name"], equation.params["detail"]
    return f"{name!r} ({detail})" if detail else repr(name)


def _kind(found: Sequence[float]) -> str:
    nan, low, high = found
    if nan:
        return "nan"
    return (
        "inf" if high else "-inf: a value outside the support, or beyond the range of floats" if low else ""
    )


def _words(equation: Any, found: Sequence[float]) -> str:
    count = int(sum(found))
    times = "" if count == 1 else f", {count} times in this run"
    if equation.primitive is sample_p:
        return f"the draw of {equation.params['site'].where} is not finite{times} ({_kind(found)})"
    name, detail = equation.params["name"], equation.params["detail"]
    return f"the log density of {name!r} is not finite{times} ({_kind(found)}; {detail})"
