"""Random programs of a few coins, with random estimators, against the sum over all paths. Exact, to 1e-8.

The sum is taken by an interpreter of its own: every instance is given its value, and the result is weighed by
the probabilities of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.distributions.density import log_density
from ppl.estimators import Enumerate, MeasureValued, Reinforce
from ppl.site import Site
from ppl.transforms.interpret import Outcome, Rule, walk
from ppl.transforms.naming import Name
from ppl.transforms.occurrences import occurrences
from ppl.transforms.position import Here, start
from ppl.transforms.stage import split, stage

from .laws import check_exactly

HOWS: list[Any] = [Reinforce(), Reinforce(baseline=0.6), Enumerate(), MeasureValued()]
LANES, MOST = 2, 5


class Assigned(Rule):
    """Every choice given; the log probability of all."""

    totals = ("log_probability",)

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        value = here.feed[name]
        scores = site.per_lane(
            lambda distribution, _, value: log_density(distribution, value), operands, value
        )
        mask = site.mask_over(operands, site.batch_shape)
        # A coin that is not tossed is as likely heads as tails, so that the two paths add up to one.
        scores = scores if mask is None else jnp.where(mask, scores, -math.log(2))
        return Outcome(value, {"log_probability": jnp.sum(scores)})


def truth_of_paths(program: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The expected value of a program of coins, without conditionals outside of lanes."""

    def truth(t: Any) -> Any:
        staged = stage(program, split(((t,), {}), floats=True))
        items = {item.name: item for item in occurrences(staged.jaxpr)}
        sizes = np.cumsum([0, *(item.size for item in items.values())])
        paths = np.indices((2,) * sizes[-1]).reshape(sizes[-1], -1).T.astype(bool)

        def path(values: Any) -> Any:
            feed = {
                name: values[low:high].reshape(*item.lengths, *item.site.instances)
                for (name, item), low, high in zip(items.items(), sizes[:-1], sizes[1:], strict=True)
            }
            found = walk(staged.jaxpr, staged.arrays, Assigned(), start(feed=feed))
            return found.outputs[0] * jnp.exp(found.totals["log_probability"])

        return jnp.sum(jax.vmap(path)(jnp.asarray(paths)))

    return truth


class Maker:
    """Makes one program: a pool of scalars and of arrays with an entry a lane, and random coins."""

    def __init__(self, seed: int, t: Any) -> None:
        self.rng, self.t, self.coins = np.random.default_rng(seed), t, 0
        self.scalars: list[Any] = [t[0], t[1]]
        self.arrays: list[Any] = [jnp.array([0.5, -0.8])]

    def number(self) -> float:
        return float(np.round(self.rng.normal(), 2))

    def scalar(self) -> Any:
        x = self.scalars[-1 - int(self.rng.integers(min(3, len(self.scalars))))]
        array = self.arrays[self.rng.integers(len(self.arrays))]
        kind = self.rng.integers(8)
        return [x, x, x, jnp.sum(array), array[0], array[-1], jnp.sin(x), array[0] * array[1]][kind]

    def array(self) -> Any:
        x = self.arrays[-1 - int(self.rng.integers(min(3, len(self.arrays))))]
        other = self.arrays[self.rng.integers(len(self.arrays))]
        kind = self.rng.integers(9)
        shifted = jnp.concatenate([jnp.zeros(1), x[:-1]])
        return [x, x, x, x * other, jnp.cumsum(x), x[::-1], shifted, x - jnp.mean(x), jnp.sin(x)][kind]

    def logit(self, x: Any) -> Any:
        return self.number() * x + self.t[self.rng.integers(2)] * (1.0 + 0.3 * self.number())

    def coin(self, logit: Any) -> Any:
        self.coins += jnp.size(logit)
        how = HOWS[self.rng.integers(len(HOWS))]
        address = f"x{len(self.scalars)}_{len(self.arrays)}_{self.coins}"
        return 1.0 * (ppl.flip(jax.nn.sigmoid(logit)).using(how) @ address)

    def grow(self) -> None:
        kind = self.rng.integers(9)
        left = MOST - self.coins
        if kind <= 1 and left >= 1:
            self.scalars.append(self.coin(self.logit(self.scalar())))
        elif kind == 2 and left >= LANES:
            self.arrays.append(self.coin(self.logit(self.array())))
        elif kind in (3, 4) and left >= LANES:
            self.lanes()
        elif kind in (5, 6) and left >= LANES:
            self.chain()
        elif kind == 7:
            self.scalars.append(self.scalar() * self.scalar())
        else:
            self.arrays.append(self.array() + self.number() * self.scalar())

    def lanes(self) -> None:
        """A coin in each lane, of lane and outside; in some lanes only, if the predicate says so."""
        x, other, masked = self.array(), self.scalar(), self.rng.uniform() < 0.5
        how, a, b = HOWS[self.rng.integers(len(HOWS))], self.number(), self.number()
        address = f"v{self.coins}"
        self.coins += LANES

        def lane(x: Any, t: Any) -> Any:
            toss = lambda: 1.0 * (ppl.flip(jax.nn.sigmoid(a * x + b * other + t)).using(how) @ address)
            return jax.lax.cond(x > 0.1, toss, lambda: 0.3 * x) if masked else toss()

        self.arrays.append(jax.vmap(lane, (0, None))(x, self.t[self.rng.integers(2)]))

    def chain(self) -> None:
        """A coin a step; the next depends on it, or on its sum so far, or not."""
        xs, first, reverse = self.array(), self.scalar(), bool(self.rng.integers(2))
        how, a, b, kind = (
            HOWS[self.rng.integers(len(HOWS))],
            self.number(),
            self.number(),
            self.rng.integers(3),
        )
        t, address = self.t[self.rng.integers(2)], f"s{self.coins}"
        self.coins += LANES

        def step(carry: Any, x: Any) -> Any:
            z, total = carry
            logit = a * x + t + (b * [z, total, 0.0][kind])
            y = 1.0 * (ppl.flip(jax.nn.sigmoid(logit)).using(how) @ address)
            return (y, total + y * x), y * (1 + z)

        (last, total), ys = jax.lax.scan(step, (first * 1.0, jnp.zeros(())), xs, reverse=reverse)
        self.arrays.append(ys)
        self.scalars.append([last, total][self.rng.integers(2)])

    def result(self) -> Any:
        total = self.t[0] * self.t[1]
        for x in self.scalars[2:]:
            total = (
                total
                + self.number() * [x, jnp.exp(0.5 * x * self.t[0]), x * self.scalar()][self.rng.integers(3)]
            )
        for x in self.arrays[1:]:
            kind = self.rng.integers(5)
            weights = jnp.array([self.number(), self.number()])
            parts = [
                x * weights,
                jnp.exp(0.3 * x * self.t[1]),
                jnp.cumsum(x),
                x[1:] * x[:-1],
                jnp.sum(x) ** 2,
            ]
            total = total + jnp.sum(parts[kind])
        return total


def program(seed: int) -> Callable[[Any], Any]:
    def run(t: Any) -> Any:
        maker = Maker(seed, t)
        for _ in range(9):
            maker.grow()
        return maker.result()

    return run


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int) -> None:
    check_exactly(program(seed), truth_of_paths(program(seed)))
