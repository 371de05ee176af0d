"""What is known of a value of a staged program: the abstract values of `ppl.transforms.continuity`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ppl.site import Site


class Jump(NamedTuple):
    """A discontinuity that a value passed through while it both moved and varied.

    Attributes:
        what: the operation in plain words.
        line: the user's line.
        sites: the choices that the value depended on.
        constant: the number that the value of a choice itself is compared with, if it is such a comparison.
    """

    what: str
    line: str
    sites: tuple[Site, ...]
    constant: float | None = None


@dataclass(frozen=True, eq=False)
class Value:
    """What is known of a value.

    Attributes:
        moves: it depends on a differentiated input with the noise held fixed.
        tangent: and JAX carries that dependence (no `stop_gradient` on the way).
        noise: the continuous choices that it depends on.
        jump: the first jump that it passed through.
        edge: as `jump`, for a log density that drops to minus infinity: harmless until that becomes a
            number.
        origin: the number that it is, or an object that stands for what it is.
        bounds: an open interval that holds it; each end a number, an `origin` or None.
        drawn: the class of the support that it was drawn from.
        own: of a value whose every entry is, unmodified, the value of some instance of a choice: the
            constants at which a comparison is accounted for; otherwise `None`.
    """

    moves: bool = False
    tangent: bool = False
    noise: frozenset[Site] = frozenset()
    jump: Jump | None = None
    edge: Jump | None = None
    origin: Any = field(default_factory=object)
    bounds: tuple[Any, Any] = (None, None)
    drawn: str = ""
    own: tuple[Any, ...] | None = None

    @property
    def crosses(self) -> bool:
        """Whether it moves and varies, so that it sweeps over a jump as the parameters move."""
        return self.moves and bool(self.noise)

    @property
    def known(self) -> tuple[Any, ...]:
        """What grows from pass to pass in a loop."""
        return self.moves, self.tangent, self.noise, self.jump is None, self.edge is None


_SMALL = 1024  # entries of an array that is looked at


def constant(array: Any) -> Value:
    """The value of a constant of the program; an array of one number is that number."""
    if isinstance(array, Tracer):  # of a transformation around the whole program
        return Value()
    small = 1 <= getattr(array, "size", 1) <= _SMALL and jnp.issubdtype(jnp.result_type(array), jnp.number)
    if not small:
        return Value()
    entries = np.asarray(array).real.reshape(-1)
    return Value(origin=float(entries[0])) if (entries == entries[0]).all() else Value()


def union(values: Sequence[Value]) -> Value:
    """The value of a smooth function of values."""
    return Value(
        moves=any(v.moves for v in values),
        tangent=any(v.tangent for v in values),
        noise=frozenset().union(*(v.noise for v in values)),
        jump=next((v.jump for v in values if v.jump), None),
        edge=next((v.edge for v in values if v.edge), None),
    )


def join(values: Sequence[Value]) -> Value:
    """The value that is one of several: the same facts about all of them stay facts.

    An interval that holds them all may hold one of them at its end. A comparison with that end has
    then one answer in each case, which is all that is made of it.
    """
    first = values[0]
    same = union(values)
    if all(v.origin == first.origin for v in values):
        same = replace(same, origin=first.origin)
    ends = [[v.origin if isinstance(v.origin, float) else v.bounds[side] for v in values] for side in (0, 1)]
    lower, upper = (_hull(side, pick) for side, pick in zip(ends, (min, max), strict=True))
    drawn = first.drawn if all(v.drawn == first.drawn for v in values) else ""
    own = first.own if all(v.own == first.own for v in values) else None
    return replace(same, bounds=(lower, upper), drawn=drawn, own=own)


def _hull(ends: list[Any], pick: Any) -> Any:
    if all(isinstance(end, float) for end in ends):
        return pick(ends)
    return ends[0] if all(end is ends[0] for end in ends) else None


def atom(values: Sequence[Value]) -> Value:
    """The value of a function that takes countably many values, of values that do not cross its jumps."""
    whole = union(values)
    return Value(jump=whole.jump, edge=whole.edge)


def forget(value: Value, *, bounds: bool = False) -> Value:
    """A value where a loop repeats it: what it is, and is bounded by, differs from step to step."""
    lower, upper = (b if isinstance(b, float) and not bounds else None for b in value.bounds)
    number = value.origin if isinstance(value.origin, float) and not bounds else object()
    kept = replace(value, origin=number, bounds=(lower, upper))
    return replace(kept, drawn="", own=None) if bounds else kept


def chosen(control: Value, cases: Sequence[Value], edge: str = "") -> Value:
    """One of several values, by a predicate or an index.

    A jump of the predicate is one of the result. With `edge`, the line of a log density, a predicate
    that crosses and picks minus infinity makes an edge.
    """
    result = join(cases) if control.known == Value().known else union([control, *cases])
    result = replace(result, tangent=any(c.tangent for c in cases))
    if edge and control.crosses and result.edge is None and any(case.origin == -math.inf for case in cases):
        what = "a function (`exp`, ...) of a log density that drops to -inf at the edge of a support,"
        result = replace(result, edge=Jump(what, edge, tuple(control.noise)))
    return result


def above(high: Value, low: Value) -> bool:
    """Whether one value is known to be greater than another, almost surely."""
    return (
        _at_least(high.bounds[0], low.origin)
        or _at_least(high.origin, low.bounds[1])
        or _at_least(high.bounds[0], low.bounds[1])
    )


def _at_least(high: Any, low: Any) -> bool:
    if isinstance(high, float) and isinstance(low, float):
        return bool(np.float32(high) >= np.float32(low))  # as a program in single precision writes them
    return high is not None and high is low
