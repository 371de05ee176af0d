"""The exact expectation of a program whose every choice has a finite support.

Where lanes are independent of each other they are summed over together, and steps of a Markov chain by the
forward algorithm (`ppl.transforms.gradient`, `ppl.transforms.chain`). Otherwise every assignment of values to
the instances of all choices is run, vectorized over assignments, and weighted by its probability. An instance
that a run does not make (in a branch that is not taken) counts as uniform over its values, so that the
assignments that differ only there add up to one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np

from ppl.distributions.density import mass
from ppl.errors import UnsupportedProgram
from ppl.site import Site
from ppl.transforms.gradient import exact_sum
from ppl.transforms.interpret import Outcome, Rule, total_dtype, walk
from ppl.transforms.naming import Name
from ppl.transforms.occurrences import Occurrence, occurrences
from ppl.transforms.plan import JOINT_LIMIT
from ppl.transforms.position import Here, start


class _Assigned(Rule):
    """A run with every choice given; records the probability of each instance, less the uniform one."""

    @override
    def recorded(self, name: Name, site: Site) -> dict[Any, Any]:
        return {name: (site.instances, total_dtype())}

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        value = here.feed[name]
        masses = site.per_lane(lambda distribution, _, value: mass(distribution, value), operands, value)
        excess = masses - 1 / len(site.support)
        mask = site.mask_over(operands, site.batch_shape)
        excess = excess if mask is None else jnp.where(mask, excess, 0)
        return Outcome(value, records={name: jnp.broadcast_to(excess, site.instances).astype(total_dtype())})

    @override
    def expect(self, name: Name, equation: Any, operands: list[Any], here: Here) -> list[Any]:
        return [inner_exact(equation, operands)]


def inner_exact(equation: Any, operands: Sequence[Any]) -> Any:
    """The exact value of an inner expectation, in each of its lanes."""
    lanes, mapped = equation.params["lanes"], equation.params["mapped"]

    def one(*operands: Any) -> Any:
        return exact(equation.params["jaxpr"], operands)

    for axis in reversed(range(len(lanes))):
        axes = tuple(0 if carried[axis] else None for carried in mapped)
        one = jax.vmap(one, in_axes=axes, axis_size=lanes[axis])
    return one(*operands)


def exact(jaxpr: Any, arguments: Sequence[Any]) -> Any:
    """The expected value of a staged program that returns one real number.

    Raises:
        UnsupportedProgram: a choice has no finite support or lies in a loop of unknown length, or there
            are more than `JOINT_LIMIT` assignments.
    """
    found = exact_sum(jaxpr, arguments, lambda equation, operands, *_: inner_exact(equation, operands))
    return _by_assignment(jaxpr, arguments) if found is None else found


def _by_assignment(jaxpr: Any, arguments: Sequence[Any]) -> Any:
    """The sum over all assignments of values to instances."""
    items = list(occurrences(jaxpr))
    for item in items:
        if item.site.support is None or None in item.lengths:
            raise UnsupportedProgram(
                "the exact value needs a finite, known support at every choice, and "
                f"{item.site.where} has none. Use `estimate`, or a family with finite support."
            )
    sizes = [item.size for item in items]
    total = math.prod(len(item.site.support) ** size for item, size in zip(items, sizes, strict=True))
    if total > JOINT_LIMIT:
        raise UnsupportedProgram(
            f"the exact value takes {total} assignments of {sum(sizes)} choices, more than "
            f"{JOINT_LIMIT}: {_listed(items, sizes)}. Only independent lanes, and the steps of a Markov "
            "chain with few states, are summed one by one, and these are not. Use `estimate`, which samples, "
            "or fewer choices."
        )

    def assigned(number: Any) -> Any:
        result = walk(jaxpr, arguments, _Assigned(), start(feed=_digits(items, sizes, number)))
        probability = jnp.ones((), total_dtype())
        for item in items:
            probability = probability * jnp.prod(result.records[item.name] + 1 / len(item.site.support))
        return (probability * result.outputs[0]).astype(result.outputs[0].dtype)

    return jnp.sum(jax.vmap(assigned)(jnp.arange(total)))


def _listed(items: list[Occurrence], sizes: list[int]) -> str:
    """The choices with the most assignments first, a few of them."""
    pairs = sorted(zip(items, sizes, strict=True), key=lambda pair: -len(pair[0].site.support) * pair[1])
    words = [
        f"{item.site.where} has {len(item.site.support)} values in {size} instances" for item, size in pairs
    ]
    return ", ".join(words[:4]) + (" and so on" if len(words) > 4 else "")


def _digits(items: list[Occurrence], sizes: list[int], number: Any) -> dict[Name, Any]:
    """The values of one assignment: the digits of its number, as indices into the supports."""
    feed: dict[Name, Any] = {}
    for item, size in zip(items, sizes, strict=True):
        support = item.site.support
        powers = np.asarray([len(support) ** place for place in range(size)])
        digits = (number // powers) % len(support)
        number = number // len(support) ** size
        shape = (*item.lengths, *item.site.instances)
        values = jnp.asarray(support)[digits].astype(item.site.dtype)
        feed[item.name] = values.reshape(*shape, *support.shape[1:])
    return feed
