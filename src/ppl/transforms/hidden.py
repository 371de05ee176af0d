"""Running one of the two programs of a joint choice: its hidden choices are drawn and do not count.

What they are drawn by depends on who runs it: the noise of a key, or choices of a surrounding program, whose
gradient estimators then reach them like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, override

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr

from ppl.joint import Sites, joint_p
from ppl.site import Site, add_mask, in_lanes
from ppl.transforms import jax_internals as internals
from ppl.transforms.interpret import Outcome, Rule, walk
from ppl.transforms.naming import Name
from ppl.transforms.one_choice import Rebind, simulate_choice
from ppl.transforms.position import Here, start


class Hidden(Rule):
    """Choices that belong to no trace: they are drawn, and neither scored nor recorded.

    Attributes:
        bind: draws by making a choice of the surrounding program; `None` to draw from noise.
        mask: whether they are made at all, where that depends on the lane.
    """

    def __init__(self, bind: Rebind | None, mask: Any = None) -> None:
        self.bind, self.mask, self.evaluates = bind, mask, bind is None

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        if self.bind is None:
            return Outcome(simulate_choice(name, site, operands, here))
        if self.mask is not None:
            site, operands = add_mask(site, operands, self.mask, None)
        return Outcome(self.bind(site, operands, len(here.loops)))


class Values(NamedTuple):
    """Values of a joint choice, with an estimate of their log density in each lane that makes it."""

    values: list[Any]
    log_density: jax.Array


def drawn(equation: Any, operands: Sequence[Any], bind: Rebind | None, here: Here) -> Values:
    """The joint choice, drawn."""
    *values, log_density = _in_lanes(equation, equation.params["draw"], operands, [], bind, here)
    return Values(values, log_density)


def scored(
    equation: Any, operands: Sequence[Any], values: Sequence[Any], bind: Rebind | None, here: Here
) -> Values:
    """Given values of the joint choice, scored."""
    (log_density,) = _in_lanes(equation, equation.params["score"], operands, values, bind, here)
    return Values(list(values), log_density)


def _in_lanes(
    equation: Any, jaxpr: Any, operands: Sequence[Any], values: Sequence[Any], bind: Rebind | None, here: Here
) -> list[Any]:
    """The outputs of one of the two programs in every lane, its log density zero where it is not made."""
    site: Site = equation.params["sites"][0]
    leaves, mask = site.split(operands)
    inputs = leaves if mask is None else [*leaves, mask]

    def one(inputs: list[Any], token: Any, *values: Any) -> list[Any]:
        leaves, mask = site.split(inputs)
        inside = here._replace(token=token, feed={})
        *made, log_density = walk(jaxpr, [*leaves, *values], Hidden(bind, mask), inside).outputs
        return [*made, log_density if mask is None else jnp.where(mask, log_density, 0)]

    return in_lanes(one, site.lanes, site.mapped, inputs, here.token.over(site.lanes), *values)


def nested(params: Mapping[str, Any], operands: list[Any], bind: Rebind, loops: int) -> list[Any]:
    """A joint choice, made as a choice of the program around the one that it belongs to."""
    sites: Sites = params["sites"]
    leaves, mask = sites[0].split([jnp.asarray(x) for x in operands])
    draw, from_draw = _remade(params["draw"], bind)
    score, from_score = _remade(params["score"], bind)
    added = [jnp.asarray(x) for x in (*from_draw, *from_score)]  # arrays of estimators, from outside
    draw, score = _alike(draw, from_draw, score, from_score)
    unmapped = ((False,) * len(sites[0].lanes) for _ in added)
    mapped = (*unmapped, *(sites[0].mapped or ((),) * len(operands)))
    remade = tuple(replace(bind.renamed(site, loops), mapped=mapped) for site in sites)
    operands = [*added, *leaves, *(() if mask is None else (mask,))]
    return joint_p.bind(*operands, draw=draw, score=score, sites=remade)


def _remade(jaxpr: Any, bind: Rebind) -> tuple[Any, list[Any]]:
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in jaxpr.in_avals]
    made = jax.make_jaxpr(lambda *inputs: walk(jaxpr, inputs, Hidden(bind), start()).outputs)(*shapes)
    return internals.without_consts(made)


def joint(draw: Any, score: Any, sites: Sites, bind: Rebind) -> list[Any]:
    """Make a joint choice of two staged programs, with what they close over as its operands."""
    draw, from_draw = internals.without_consts(draw)
    score, from_score = internals.without_consts(score)
    draw, score = _alike(draw, from_draw, score, from_score)
    params = {"draw": draw, "score": score, "sites": sites}
    return nested(params, [*from_draw, *from_score], bind, 0)


def _alike(draw: Any, from_draw: Sequence[Any], score: Any, from_score: Sequence[Any]) -> tuple[Any, Any]:
    """The two programs with both their constants as leading inputs, each ignoring those of the other."""
    return _with_ignored(draw, len(from_draw), from_score), _with_ignored(score, 0, from_draw)


def _with_ignored(jaxpr: Any, place: int, ignored: Sequence[Any]) -> Any:
    """The jaxpr with further inputs, which it does not use."""
    if not ignored:
        return jaxpr
    own = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in jaxpr.in_avals]
    other = [jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in ignored]

    def run(*inputs: Any) -> Any:
        used = [*inputs[:place], *inputs[place + len(ignored) :]]
        return eval_jaxpr(jaxpr, [], *used)

    return jax.make_jaxpr(run)(*own[:place], *other, *own[place:])
