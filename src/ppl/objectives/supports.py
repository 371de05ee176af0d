"""Whether a guide proposes only where its target has mass, as far as the families say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ppl.detached import Detached
from ppl.distributions.support import extent
from ppl.errors import SupportMismatch
from ppl.measure import Distribution, Measure
from ppl.program import Conditioned, Program
from ppl.transforms.occurrences import Occurrence
from ppl.transported import Transported


def check_supports(target: Measure, guide: Measure, objective: str, *, zero_weights: bool = False) -> None:
    """Refuse a guide with a choice that has values which the target's choice at the same address never has.

    The log density of the target is minus infinity there, and so is the expected value of the objective, at
    every parameter: no gradient leads out of it. What depends on the values of parameters (the ends of a
    uniform distribution) is not seen here; training names it at the first draw outside.

    Args:
        target: scored at the guide's choices.
        guide: proposes them.
        objective: its name, for the message.
        zero_weights: whether a density of zero is an importance weight like any other.

    Raises:
        SupportMismatch: names both choices.
    """
    proposed, scored = _choices(guide), _choices(target)
    for address, (from_guide, where_guide, values_guide) in proposed.items():
        if address not in scored:
            continue
        from_target, where_target, values_target = scored[address]
        found = _conflict(from_guide, from_target, values_guide, values_target, zero_weights)
        if found is not None:
            raise SupportMismatch(
                f"{objective}: the guide's choice {where_guide} {found[0]}; the target's, {where_target}, "
                f"{found[1]}. {found[2]} Give the guide a family with the support of the target's, or give "
                "the target's choice the guide's support and transform its value (`jnp.exp(x)`, "
                "`jax.nn.sigmoid(x)`), with the change of variables in its prior."
            )


_NEVER = (
    "At a value outside its support the target's log density is -inf, and so is the expected value of the "
    "objective, whatever the parameters."
)
_KINDS = "A probability and a density are no ratio: the difference of their logarithms bounds nothing."


Known = tuple[Any, str, Any]
"""The distribution of a choice, its address and line, and its values if they are finitely many and known."""


def _choices(measure: Measure) -> dict[Any, Known]:
    """The choices that are made in every run and are not given."""
    if isinstance(measure, Detached):
        return _choices(measure.measure)
    if isinstance(measure, Conditioned):
        given = [address for address, _ in measure.observed.leaves()]
        return {
            address: known for address, known in _choices(measure.program).items() if address not in given
        }
    if isinstance(measure, Distribution):
        return {(): (measure.numpyro, f"{measure.family} ({measure.source})", None)}
    if isinstance(measure, Transported):  # its choices have the supports of its target's
        latent = [slot.item.name[0] for slot in measure.latent.slots.values()]
        known = _choices(measure.latent.target)
        return {address: known[address] for address in latent if address in known}
    return dict(_made(measure)) if isinstance(measure, Program) else {}


def _made(program: Program) -> Iterator[tuple[Any, Known]]:
    for address, items in program.stage().choices.items():
        if _is_known(items):
            yield address, (items[0].distribution, items[0].site.where, items[0].site.support)


def _may_be_left_out(item: Occurrence) -> bool:
    return bool(item.branches or item.site.masked)


def _is_known(items: list[Occurrence]) -> bool:
    return len(items) == 1 and not items[0].is_joint and not _may_be_left_out(items[0])


def _conflict(
    guide: Any, target: Any, values_guide: Any, values_target: Any, zero_weights: bool
) -> tuple[str, str, str] | None:
    """What the guide's choice has and the target's has not, in words, and what comes of it."""
    mine, others = extent(guide), extent(target)
    if mine is None or others is None:
        return None
    if mine.discrete != others.discrete:
        words = {True: "is discrete", False: "has a density"}
        return words[mine.discrete], words[others.discrete], _KINDS
    if zero_weights:
        return None
    if values_guide is not None and values_target is not None:
        return _values(np.asarray(values_guide), np.asarray(values_target))
    if mine.size > others.size or (others.simplex and not mine.simplex):
        return f"has {mine.words}", f"has {others.words}", _NEVER
    return None


def _values(mine: np.ndarray, others: np.ndarray) -> tuple[str, str, str] | None:
    """The first of the guide's values that the target's choice never has."""
    if mine.shape[1:] != others.shape[1:]:
        return None
    known = {tuple(np.ravel(value).tolist()) for value in others}
    outside = [value.tolist() for value in mine if tuple(np.ravel(value).tolist()) not in known]
    if not outside:
        return None
    return f"may be {outside[0]}, one of {len(mine)} values", f"has {len(others)} others", _NEVER
