"""Whether a guide and its target have mass in the same places, as far as the families say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ppl.detached import Detached
from ppl.distributions.support import extent
from ppl.errors import SupportMismatch
from ppl.measure import Distribution, Measure
from ppl.program import Conditioned, Program
from ppl.transforms.occurrences import Occurrence
from ppl.transported import Transported


def check_supports(
    target: Measure, guide: Measure, objective: str, *, zero_weights: bool = False, forward: bool = False
) -> None:  # fmt: skip
    """Refuse a guide with a choice whose values are not those of the target's choice at the same address.

    Where the one that is drawn has values that the other never has, the log density of the other is minus
    infinity, and so is the expected value of the objective, at every parameter: no gradient leads out of it.
    Where the target has values that the guide never proposes, no parameters make the guide its posterior,
    and importance weights miss a part of the normalizer, so that an upper bound of it is none. What depends
    on the values of parameters (the ends of a uniform distribution) is not seen here; training names it at
    the first draw outside.

    Args:
        target: a model.
        guide: its approximation.
        objective: its name, for the message.
        zero_weights: whether a density of zero is an importance weight like any other.
        forward: whether the target is drawn and the guide scored, not the other way round.

    Raises:
        SupportMismatch: names both choices.
    """
    proposed, scored = _choices(guide), _choices(target)
    for address, of_guide in proposed.items():
        if address not in scored:
            continue
        of_target = scored[address]
        found = _fault(of_guide, of_target, zero_weights, forward)
        if found is not None:
            raise SupportMismatch(
                f"{objective}: the guide's choice {of_guide[1]} {found.guide}; the target's, {of_target[1]}, "
                f"{found.target}. {found.reason} Give the guide a family with the support of the target's, "
                "or give the target's choice the guide's support and transform its value (`jnp.exp(x)`, "
                "`jax.nn.sigmoid(x)`), with the change of variables in its prior."
            )


class _Fault(NamedTuple):
    """What the two choices have, in words, and what comes of it."""

    guide: str
    target: str
    reason: str


_NEVER = (
    "At a value outside its support the {}'s log density is -inf, and so is the expected value of the "
    "objective, whatever the parameters."
)
_UNCOVERED = (
    "Values that the guide never has are left out: no parameters make it the posterior, and importance "
    "weights by it miss a part of the normalizer. (If that is meant, write the objective out: `q = "
    "guide.propose()`, then `target.log_density(q.choices) - q.log_density`.)"
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


def _fault(guide: Known, target: Known, zero_weights: bool, forward: bool) -> _Fault | None:
    mine, others = extent(guide[0]), extent(target[0])
    if mine is None or others is None:
        return None
    if mine.discrete != others.discrete:
        words = {True: "is discrete", False: "has a density"}
        return _Fault(words[mine.discrete], words[others.discrete], _KINDS)
    short = _beyond(target, guide)
    if short is not None:
        return _Fault(short[1], short[0], _NEVER.format("guide") if forward else _UNCOVERED)
    wide = _beyond(guide, target)
    return None if forward or zero_weights or wide is None else _Fault(*wide, _NEVER.format("target"))


def _beyond(one: Known, other: Known) -> tuple[str, str] | None:
    """In words what one of two choices has, and the other, if it has values that the other never has."""
    if one[2] is not None and other[2] is not None:
        return _values(np.asarray(one[2]), np.asarray(other[2]))
    mine, others = extent(one[0]), extent(other[0])
    if mine is None or others is None:
        return None
    if mine.size > others.size or (others.simplex and not mine.simplex):
        return f"has {mine.words}", f"has {others.words}"
    return None


def _values(mine: np.ndarray, others: np.ndarray) -> tuple[str, str] | None:
    """In words the first of some values that is not among others."""
    if mine.shape[1:] != others.shape[1:]:
        return None
    known = {tuple(np.ravel(value).tolist()) for value in others}
    outside = [value.tolist() for value in mine if tuple(np.ravel(value).tolist()) not in known]
    if not outside:
        return None
    return f"may be {outside[0]}, one of {len(mine)} values", f"has {len(others)} others"
