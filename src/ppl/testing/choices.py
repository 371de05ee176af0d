"""The expected value of a program by sums and quadrature over its choices, never over anybody's noise.

The staged program is walked with every random choice taking the values of its support, or nodes of a
quadrature rule, each with its density as the weight. Nothing here knows how a choice is drawn or how a
gradient is estimated.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppl.distributions.density import feasible, log_density
from ppl.inner import expect_p
from ppl.site import Site, sample_p
from ppl.testing.bijections import bijection
from ppl.testing.breaks import Breaks
from ppl.testing.rules import panels_of, with_breaks
from ppl.testing.walk import NotWalkable, walk
from ppl.testing.worlds import PerWorld, Worlds
from ppl.transforms.stage import Staged

_PASSES = 8
_COUNT = 4096  # values of a choice without finite support, at most
_TAIL = -42.0  # a log density that is as good as none


class Quadrature(NamedTuple):
    """Expected values at several arguments.

    Attributes:
        values: one for each set of arguments.
        mass: what all weights add up to, for each; one, but for the error of the quadrature.
        worlds: how many assignments there were.
    """

    values: np.ndarray
    mass: np.ndarray
    worlds: int


def expected_values(
    staged: Staged, arrays: Sequence[np.ndarray], breaks: Breaks, level: int
) -> tuple[Quadrature, Breaks]:
    """The expected value at several arguments at once, in double precision.

    Args:
        staged: a program that returns one real number, staged in double precision.
        arrays: its inputs, with a leading axis of the sets of arguments.
        breaks: where choices are cut.
        level: how fine the rules are.
    """
    count = len(arrays[0]) if arrays else 1
    for _ in range(_PASSES):
        worlds = Worlds(breaks=breaks, level=level)
        worlds.split(np.ones((1, count)))
        inputs = [worlds.wrap(np.asarray(x)) for x in arrays]
        walker = _Choices()
        (result,) = walk(staged.jaxpr, inputs, worlds, walker.leaves)
        result = worlds.settled(result)
        following = breaks.next()
        if following is None or breaks.unresolved:
            break
        breaks = following
    which = worlds.read(worlds.splits[0].part)
    sums = [np.bincount(which, x, count) for x in (worlds.weights * worlds.full(result), worlds.weights)]
    return Quadrature(sums[0], sums[1], len(worlds.weights)), breaks


class _Choices:
    """The leaves of the walk: random choices, and inner expectations, whose choices are among all others."""

    def __init__(self) -> None:
        self.number = 0
        self.leaves = {sample_p: self.choose, expect_p: self.inside}

    def choose(self, equation: Any, values: list[Any], worlds: Worlds) -> list[Any]:
        site: Site = equation.params["site"]
        values = [worlds.settled(x) for x in values]
        leaves, mask = site.split(values)
        lanes = list(np.ndindex(*site.lanes))
        columns = []
        for lane in lanes:
            mapped = site.mapped or ((),) * len(values)
            here = [_lane(x, lane, carried, worlds) for x, carried in zip(leaves, mapped, strict=False)]
            made = None if mask is None else _lane(mask, lane, mapped[-1], worlds)
            with worlds.where(True if made is None else made):
                columns.append(self._one(site, here, worlds))
        if not lanes:
            return [np.zeros((*site.lanes, *site.shape), site.dtype)]
        full = np.stack([worlds.full(column) for column in columns], axis=1)
        return [worlds.wrap(full.reshape((-1, *site.lanes, *site.shape)).astype(site.dtype))]

    def _one(self, site: Site, leaves: list[Any], worlds: Worlds) -> PerWorld:
        """The value of a choice in one lane: its entries, one after the other."""
        event = site.shape[len(site.batch_shape) :]
        entries = list(np.ndindex(*site.batch_shape))
        drawn = [self._entry(site, leaves, entry, worlds) for entry in entries]
        if not drawn:
            return worlds.wrap(np.zeros((len(worlds.weights), *site.shape)))
        full = np.stack([worlds.full(x) for x in drawn], axis=1)
        return worlds.wrap(full.reshape((-1, *site.batch_shape, *event)))

    def _entry(self, site: Site, leaves: list[Any], entry: tuple[int, ...], worlds: Worlds) -> PerWorld:
        self.number += 1
        if site.support is not None:
            return _discrete(site, leaves, entry, np.asarray(site.support), worlds)
        if not jnp.issubdtype(site.dtype, jnp.floating):
            return _counted(site, leaves, entry, worlds)
        return _continuous((self.number,), site, leaves, entry, worlds)

    def inside(self, equation: Any, values: list[Any], worlds: Worlds) -> list[Any]:
        params = equation.params
        lanes, columns = params["lanes"], []
        for lane in np.ndindex(*lanes):
            values = [worlds.settled(x) for x in values]
            here = [_lane(x, lane, m, worlds) for x, m in zip(values, params["mapped"], strict=True)]
            columns.append(walk(params["jaxpr"], here, worlds, self.leaves)[0])
        full = np.stack([worlds.full(x) for x in columns], axis=1)
        return [worlds.wrap(full.reshape((-1, *lanes)))]


def _lane(value: Any, lane: tuple[int, ...], carried: tuple[bool, ...], worlds: Worlds) -> Any:
    """A value in one lane, of the lane axes that it carries."""
    index = tuple(i for i, here in zip(lane, carried, strict=True) if here)
    if isinstance(value, PerWorld):
        return worlds.wrap(worlds.read(value)[(slice(None), *index)])
    return np.asarray(value)[index]


def _function(site: Site, entry: tuple[int, ...], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of an entry's distribution and more, as one of the leaves and more."""

    def of(leaves: list[Any], *more: Any) -> Any:
        distribution, _ = jax.tree.unflatten(site.tree, leaves)
        return function(distribution, entry, *more)

    return of


def _log_mass(distribution: Any, entry: tuple[int, ...], value: Any) -> Any:
    """The log density of one entry, the others being somewhere in their support."""
    shape = (*distribution.batch_shape, *distribution.event_shape)
    other = jnp.asarray(feasible(distribution, jnp.zeros(shape, jnp.result_type(value))))
    full = jnp.broadcast_to(other, shape).astype(jnp.result_type(value)).at[entry].set(value)
    return log_density(distribution, full)[entry]


def _apply(function: Callable[..., Any], worlds: Worlds, leaves: list[Any], *more: Any) -> list[Any]:
    """A function of arrays in all worlds, walked so that its comparisons are seen."""
    now = [np.asarray(worlds.read(x)) for x in (*leaves, *more)]
    shapes = [
        jax.ShapeDtypeStruct(x.shape[isinstance(v, PerWorld) :], x.dtype)
        for x, v in zip(now, (*leaves, *more), strict=True)
    ]
    count = len(leaves)
    jaxpr = jax.make_jaxpr(lambda *xs: function(list(xs[:count]), *xs[count:]))(*shapes)
    return walk(jaxpr, [*leaves, *more], worlds, {})


def _discrete(
    site: Site, leaves: list[Any], entry: tuple[int, ...], support: np.ndarray, worlds: Worlds
) -> PerWorld:
    """Every value of a finite support."""
    shares = np.ones((len(worlds.weights), len(support)))
    if (active := worlds.active) is not None:
        shares[~active, 1:] = 0
    value = worlds.wrap(support.astype(site.dtype)[worlds.split(shares)])
    logs = worlds.full(_apply(_function(site, entry, _log_mass), worlds, leaves, value)[0])
    _weigh(logs, worlds)
    return value


def _weigh(logs: np.ndarray, worlds: Worlds) -> None:
    """Multiply the weights by densities, where the choice is made."""
    factor = np.exp(logs)
    if (active := worlds.active) is not None:
        factor = np.where(active, factor, 1.0)
    worlds.weights = worlds.weights * factor


def _counted(site: Site, leaves: list[Any], entry: tuple[int, ...], worlds: Worlds) -> PerWorld:
    """Counts from zero on, up to where their density is negligible."""
    if site.shape[len(site.batch_shape) :]:
        raise NotWalkable(f"{site.where} has no finite support")
    function = _function(site, entry, _log_mass)
    most = 16
    while most <= _COUNT:
        before, last = (
            worlds.full(_apply(function, worlds, leaves, np.asarray(most - k, site.dtype))[0]) for k in (2, 1)
        )
        if np.all((last < _TAIL) & (last < before)):
            return _discrete(site, leaves, entry, np.arange(most), worlds)
        most *= 2
    raise NotWalkable(f"{site.where} has more than {_COUNT} values that count")


def _continuous(name: Any, site: Site, leaves: list[Any], entry: tuple[int, ...], worlds: Worlds) -> PerWorld:
    """Nodes of the number, or numbers, that a bijection carries to the support."""
    spots = _spots(site, leaves, entry, worlds)
    function = _function(site, entry, _carried)
    reach = _reach(function, leaves, spots, worlds)
    coordinates = []
    for i in range(spots[0].array.shape[-1]):
        count = len(worlds.weights)
        nodes, weights = _nodes(worlds.breaks.of((*name, i), count), count, worlds.level, reach)
        if (active := worlds.active) is not None:
            middle = np.arange(nodes.shape[1]) == nodes.shape[1] // 2
            weights = np.where(active[:, None], weights, middle)
        worlds.split(weights, (*name, i), nodes)
        coordinates.append(worlds.splits[-1].nodes)
    t = worlds.wrap(np.stack([worlds.read(x) for x in coordinates], axis=1))
    value, log_weight = _apply(function, worlds, leaves, *spots, t)
    logs = worlds.full(log_weight)
    _weigh(np.where(np.isnan(logs), -np.inf, logs), worlds)
    return worlds.wrap(worlds.full(value))


def _reach(function: Any, leaves: list[Any], spots: list[PerWorld], worlds: Worlds) -> float:
    """How far out coordinates have to go, for the density of the number to be negligible there."""
    size = spots[0].array.shape[-1]
    for reach in _REACHES[:-1]:
        ends = [
            worlds.full(_apply(function, worlds, leaves, *spots, np.full(size, e))[1])
            for e in (-reach, reach)
        ]
        if not any(np.any(end > _NEGLIGIBLE) for end in ends):
            return reach
    return _REACHES[-1]


def _carried(distribution: Any, entry: tuple[int, ...], center: Any, width: Any, t: Any) -> Any:
    """The value at coordinates `t`, and the log of its density there times the volume that `t` stands for."""
    y = center + width * jnp.sinh(t)
    log_volume = jnp.sum(jnp.log(width) + jnp.log(jnp.cosh(t)))
    carry = bijection(distribution, entry)
    inner = y if getattr(getattr(carry, "domain", None), "event_dim", 0) else y[0]
    value = carry(inner)
    log_volume = log_volume + jnp.sum(carry.log_abs_det_jacobian(inner, value))
    return value, _log_mass(distribution, entry, value) + log_volume


_DRAWS = 101


def _spots(site: Site, leaves: list[Any], entry: tuple[int, ...], worlds: Worlds) -> list[PerWorld]:
    """Where a choice lies and how wide it is, in the variable that is not constrained, in each world.

    From NumPyro's draws with one fixed key: only how many nodes it takes depends on it.
    """
    mapped = tuple(0 if isinstance(x, PerWorld) else None for x in leaves)
    now = [np.asarray(worlds.read(x)) for x in leaves]
    if all(m is None for m in mapped):
        found = _compiled_spot(site, entry, mapped)(now)
        return [worlds.wrap(np.broadcast_to(x, (len(worlds.weights), *x.shape))) for x in found]
    rows = [x.reshape(len(x), -1) for x, m in zip(now, mapped, strict=True) if m == 0]
    _, first, back = np.unique(np.concatenate(rows, axis=1), axis=0, return_index=True, return_inverse=True)
    extra = 4 ** int(np.ceil(np.log(len(first)) / np.log(4) - 1e-9)) - len(first)
    picked = np.concatenate([first, np.repeat(first[:1], extra)])
    found = _compiled_spot(site, entry, mapped)(
        [x[picked] if m == 0 else x for x, m in zip(now, mapped, strict=True)]
    )
    return [worlds.wrap(np.asarray(x)[back.ravel()]) for x in found]


@functools.cache
def _compiled_spot(site: Site, entry: tuple[int, ...], mapped: tuple[int | None, ...]) -> Callable[..., Any]:
    def spot(distribution: Any, entry: tuple[int, ...]) -> Any:
        draws = distribution.sample(jax.random.key(0), (_DRAWS,))[(slice(None), *entry)]
        inner = jax.vmap(bijection(distribution, entry)._inverse)(draws).reshape(_DRAWS, -1)
        inner = jnp.sort(inner, axis=0)
        low, center, high = (inner[int(share * _DRAWS)] for share in (0.16, 0.5, 0.84))
        return center, jnp.maximum((high - low) / 2, 1e-12)

    function = _function(site, entry, spot)
    return jax.jit(
        function if all(m is None for m in mapped) else jax.vmap(function, in_axes=(list(mapped),))
    )


_REACHES = (4.4, 6.0, 9.0, 18.0, 37.0)
_NEGLIGIBLE = -34.0


def _nodes(breaks: np.ndarray | None, count: int, level: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the whole line, of which the ends are far out."""
    if breaks is None:
        step = (0.26, 0.18, 0.12)[level]
        nodes = np.arange(-reach, reach + step / 2, step)
        return np.broadcast_to(nodes, (count, len(nodes))), np.full((count, len(nodes)), step)
    ends = np.linspace(-reach, reach, 1 + 2 * math.ceil(reach / 2.2 - 1e-9))
    return panels_of(with_breaks(tuple(ends), breaks), (12, 18, 26)[level])
