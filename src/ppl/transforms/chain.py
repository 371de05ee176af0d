r"""Exact sums over the states of a chain: the forward algorithm, on the terms of a result.

Let choices of finite support be made in a loop of `T` steps, such that with all of them given

- the parameters of a step's choices depend on that step and the one before it only, and
- every term element depends on two neighboring steps at most.

Then the state `x_t`, all choices of a step together, is a Markov chain (given the other noise), and

.. math:: E[r] = r_0 + \sum_e \sum_{u, v} P(x_{t(e)-1} = u, x_{t(e)} = v)\; c_e(u, v).

A run that gives even steps the state `v_0` and odd steps `v_1` yields, for all steps at once, the probability
of one state after the other and every term element at that pair. So `K^2` runs of the whole program,
vectorized, hold all that the sum needs; where no step depends on the one before it, `K` do. Value and
derivatives of every order are exact.

Reference: Baum, Petrie, Soules, Weiss, "A maximization technique occurring in the statistical analysis of
probabilistic functions of Markov chains", 1970.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppl.site import Site
from ppl.transforms.dependence import Dependence, Given, Relation
from ppl.transforms.naming import Name
from ppl.transforms.occurrences import Occurrence
from ppl.transforms.terms import Cut, Terms

LANES_LIMIT = 2**10
"""How many runs sum over lanes or over a chain, at most; beyond, instances are replaced one by one."""


class Chain(NamedTuple):
    """Choices that are summed over step by step.

    Attributes:
        items: the choices.
        length: how many steps.
        width: how many neighboring steps a term or a parameter may depend on: 1 or 2.
        reverse: whether the last step is made first.
    """

    items: dict[Name, Occurrence]
    length: int
    width: int
    reverse: bool

    @property
    def states(self) -> int:
        """How many states a step has."""
        return math.prod(len(item.site.support) for item in self.items.values())

    def digits(self, state: Any) -> dict[Name, Any]:
        """For each choice, the index of its value in a state."""
        found = {}
        for name, item in self.items.items():
            found[name] = state % len(item.site.support)
            state = state // len(item.site.support)
        return found

    def feed(self, assigned: Any) -> dict[Name, Any]:
        """The values of all instances in the run that gives step `t` the state `assigned[t mod width]`."""
        states = assigned[jnp.arange(self.length) % self.width]
        feed = {}
        for name, digit in self.digits(states).items():
            site = self.items[name].site
            values = jnp.asarray(site.support)[digit].astype(site.dtype)
            event = values.shape[1:]
            values = values.reshape(self.length, *(1 for _ in site.instances), *event)
            feed[name] = jnp.broadcast_to(values, (self.length, *site.instances, *event))
        return feed

    @property
    def runs(self) -> Any:
        """The assigned states of every run, shape `(K^width, width)`."""
        return jnp.asarray(np.indices((self.states,) * self.width).reshape(self.width, -1).T)


def aligned(relations: Sequence[Relation]) -> bool:
    """Whether lanes stay lanes: every axis has its own, without a shift."""
    return all(r is not None and r[1:] == (0, 0) for r in relations)


def independent(name: Name, site: Site, cuts: Sequence[Cut]) -> bool:
    """Whether every term element depends on one lane of the choice at most, that of its own place."""
    return all(aligned(cut.dependence[name]) for cut in cuts if name in cut.dependence)


def chain_of(
    steps: dict[Name, Occurrence], terms: Terms | None, others: Iterable[Name], size: int
) -> Chain | None:
    """The chain that these choices are, if they are one.

    `others` are the choices that are treated in another way: none of them may depend on the chain. `size` is
    the number of runs that are made anyway.
    """
    if not steps or terms is None:
        return None
    first = next(iter(steps.values()))
    shapes = {(item.lengths, item.site.instances) for item in steps.values()}
    states = math.prod(len(item.site.support) for item in steps.values())
    length = math.prod(n or 0 for n in first.lengths)
    if len(shapes) > 1 or len(first.lengths) > 1 or not length:
        return None
    if any(name in terms.parameters.get(other, {}) for other in others for name in steps):
        return None
    given = [Given(name) for name in steps]
    backward = _windows([terms.parameters.get(name, {}) for name in steps], given)
    found = _windows([cut.dependence for cut in terms.cuts], given)
    if backward is None or found is None:
        return None
    reach = [0, *(end for window in backward for end in window)]
    low, high = min(reach), max(reach)
    if low < -1 or high > 1 or (low < 0 < high):
        return None
    width = max([1 + high - low, *(high - low + 1 for low, high in found)])  # infinite, for all earlier steps
    if width > 2 or states ** int(width) * size > LANES_LIMIT:
        return None
    return Chain(steps, length, int(width), high > 0)


def _windows(dependences: Sequence[Dependence], names: Sequence[Given]) -> list[tuple[float, float]] | None:
    """The windows of steps, if lanes are lanes throughout."""
    windows = []
    for dependence in dependences:
        for name in names:
            if name not in dependence:
                continue
            step, *lanes = dependence[name]
            if step is None or not aligned(lanes):
                return None
            windows.append((step[1], step[2]))
    return windows


def marginals(chain: Chain, probability: Mapping[Name, Any]) -> tuple[Any, Any]:
    """The law of each step's state, and of each pair of neighboring steps.

    Args:
        chain: the choices.
        probability: for each choice, of its value, shape `(runs, T, *lanes)`.

    Returns:
        `(T, K, *lanes)`; and `(T + 1, K, K, *lanes)`, entry `t` for the steps `t - 1` and `t`, where a step
        that does not exist counts as uniform.
    """
    states, length = chain.states, chain.length
    product = jnp.asarray(math.prod(probability.values(), start=1.0))
    lanes = product.shape[2:]
    product = product.reshape(*(states,) * chain.width, length, *lanes)
    if chain.width == 1:
        single = jnp.moveaxis(product, 0, 1)
        return single, _pairs(single)
    even = (jnp.arange(length) % 2 == 0).reshape(length, *(1 for _ in (0, 1, *lanes)))
    # Rows are the state of the neighbor that the step depends on, columns its own.
    product = jnp.moveaxis(product, 2, 0)
    moves = jnp.where(even, jnp.swapaxes(product, 1, 2), product)
    start = jnp.full((states, *lanes), 1 / states, product.dtype)

    def step(law: Any, move: Any) -> Any:
        pair = law[:, None] * move
        return jnp.sum(pair, axis=0), pair

    _, pairs = jax.lax.scan(step, start, moves, reverse=chain.reverse)
    single = jnp.sum(pairs, axis=1)
    # Entry t of `pairs` is of (t - 1, t); backwards it is of (t + 1, t).
    if chain.reverse:
        pairs = jnp.swapaxes(pairs, 1, 2)
        pairs = jnp.concatenate([_uniform(single[:1], before=True), pairs])
    else:
        pairs = jnp.concatenate([pairs, _uniform(single[-1:], before=False)])
    return single, pairs


def _uniform(single: Any, before: bool) -> Any:
    """Pairs with a step that does not exist: before the first, or after the last."""
    states = single.shape[1]
    spread = single[:, None] if before else single[:, :, None]
    return jnp.broadcast_to(spread, (1, states, states, *single.shape[2:])) / states


def _pairs(single: Any) -> Any:
    """Pairs of independent steps."""
    inner = single[:-1, :, None] * single[1:, None, :]
    return jnp.concatenate([_uniform(single[:1], True), inner, _uniform(single[-1:], False)])


def weights(chain: Chain, laws: tuple[Any, Any], cut: Cut) -> Any:
    """The weight of every term element in each run: the probability of the states that it depends on.

    Shape `(runs, ...)`, the rest broadcasting against the term.
    """
    single, pairs = laws
    runs, relations = chain.states**chain.width, _relations(chain, cut)
    if relations is None:
        return jnp.full((runs,) + (1,) * len(cut.shape), 1 / runs, single.dtype)
    axis, low, high = relations[0]
    index = np.arange(cut.shape[axis])
    if chain.width == 1:
        table = _extended(single, index + int(low), 1 / chain.states)
    elif low == high:
        table = _one_of_two(chain, single, index + int(low))
    else:
        table = _two_of_two(chain, pairs, index + int(high))
    # Now (elements, runs..., *lanes): move each axis to its place.
    table = table.reshape(len(index), runs, *single.shape[2:])
    table = jnp.moveaxis(table, 1, 0)
    kept = [r[0] for r in relations]
    table = jnp.transpose(table, [0, *(1 + i for i in sorted(range(len(kept)), key=kept.__getitem__))])
    missing = [1 + axis for axis in range(len(cut.shape)) if axis not in kept]
    return jnp.expand_dims(table, missing)


def _relations(chain: Chain, cut: Cut) -> list[tuple[int, float, float]] | None:
    """How the term depends on the chain: on all of its choices at once, in the widest window."""
    found = [cut.dependence[Given(name)] for name in chain.items if Given(name) in cut.dependence]
    if not found:
        return None
    merged = []
    for parts in zip(*found, strict=True):
        known = [part for part in parts if part is not None]
        merged.append((known[0][0], min(p[1] for p in known), max(p[2] for p in known)))
    return merged


def _extended(table: Any, index: Any, beyond: float) -> Any:
    """Rows of a table; a row that does not exist is uniform."""
    inside = (index >= 0) & (index < len(table))
    rows = table[np.clip(index, 0, len(table) - 1)]
    return jnp.where(inside.reshape(-1, *(1,) * (rows.ndim - 1)), rows, beyond)


def _one_of_two(chain: Chain, single: Any, index: Any) -> Any:
    """Of terms that depend on one step, in runs that assign two states."""
    rows = _extended(single, index, 1 / chain.states)
    even = (index % 2 == 0).reshape(-1, *(1,) * (rows.ndim))
    shape = (len(index), chain.states, chain.states, *single.shape[2:])
    own, other = jnp.broadcast_to(rows[:, :, None], shape), jnp.broadcast_to(rows[:, None, :], shape)
    return jnp.where(even, own, other) / chain.states


def _two_of_two(chain: Chain, pairs: Any, index: Any) -> Any:
    """Of terms that depend on the steps `index - 1` and `index`, in runs that assign two states."""
    rows = _extended(pairs, index, 1 / chain.states**2)
    even = (index % 2 == 0).reshape(-1, *(1,) * (rows.ndim - 1))
    return jnp.where(even, jnp.swapaxes(rows, 1, 2), rows)
