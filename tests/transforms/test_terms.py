"""The terms of a result add up to it, and change with no instance but those they are said to depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppl.site import Site, sample_p
from ppl.transforms.interpret import Outcome, Rule, walk
from ppl.transforms.naming import Name
from ppl.transforms.occurrences import occurrences
from ppl.transforms.position import Here, start
from ppl.transforms.returns import gather, spread
from ppl.transforms.stage import split, stage
from ppl.transforms.terms import Cut, Terms

from . import brute, programs


class Kept(Rule):
    """Choices stay choices, each at an address of its own, so that it is known in whatever is made of it."""

    evaluates = False

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        # JAX would take a choice with the same parameters in each step out of the loop.
        still = sum((0 * loop.step for loop in here.loops), start=jnp.asarray(0))
        operands = [x if x.dtype == bool else x + still.astype(x.dtype) for x in operands]
        return Outcome(sample_p.bind(*operands, site=replace(site, address=own(name))))


def own(name: Name) -> tuple[str]:
    return (f"{'/'.join(name[0])} {name[1]}",)


class Checked:
    """A program with its terms, as programs with choices in them."""

    def __init__(self, function: Any, rng: np.random.Generator, unwatched: float = 0.2) -> None:
        with jax.enable_x64(True):
            self.jaxpr = stage(function, split(((), {}))).jaxpr
            known = [item for item in occurrences(self.jaxpr) if None not in item.lengths]
            watched = {item.name for item in known if rng.uniform() >= unwatched}
            self.watched = watched
            self.terms = Terms(self.jaxpr, watched.__contains__, lambda name: False)
            self.deltas = [jnp.asarray(rng.normal(size=cut.shape)) for cut in self.terms.cuts]
            self.zeros = [jnp.zeros(cut.shape) for cut in self.terms.cuts]
            self.both = jax.make_jaxpr(self._run)(self.deltas)
            self.pulled = jax.make_jaxpr(self._pull)(self.zeros)

    def _run(self, changes: list[Any]) -> Any:
        feed = {cut.key: change for cut, change in zip(self.terms.cuts, changes, strict=True)}
        found = walk(self.jaxpr, [], Kept(), start(feed=feed), self.terms.root)
        return found.weighted.get(0, found.outputs[0]), found.outputs[0]

    def _pull(self, zeros: list[Any]) -> Any:
        _, pull, _ = jax.vjp(self._run, zeros, has_aux=True)
        return pull(jnp.ones(()))[0]

    def check(self, rng: np.random.Generator, settings: int = 3) -> None:
        noise, worlds, base = brute.probe(self.jaxpr, rng, settings)
        count = len(base)
        full = lambda arrays: [np.broadcast_to(x, (count, *x.shape)) for x in map(np.asarray, arrays)]
        (result,) = brute.evaluate(self.jaxpr, noise, count)
        noise |= {(own(name), 0): values for name, values in noise.items()}
        weighted, plain = brute.evaluate(self.both, noise, count, full(self.deltas))
        parts = brute.evaluate(self.pulled, noise, count, full(self.zeros))
        assert np.isfinite(result).all()
        np.testing.assert_allclose(plain, result, rtol=1e-12)
        size = 1 + np.abs(result) + sum(np.abs(c).reshape(count, -1).sum(1) for c in parts)
        moved = [(c * d).reshape(count, -1).sum(1) for c, d in zip(parts, full(self.deltas), strict=True)]
        assert np.all(np.abs(weighted - result - sum(moved)) <= 1e-9 * size), "not linear in the terms"
        rest = result - sum(c.reshape(count, -1).sum(1) for c in parts)
        for name in self.watched:
            where = worlds[name]
            away = np.abs(rest[where] - rest[base[where]]) > 1e-9 * size[where]
            assert not away.any(), f"what is left of the result depends on {name}"
            for cut, part in zip(self.terms.cuts, parts, strict=True):
                reached = brute.reached(part, base, where)
                claimed = np.zeros_like(reached)
                if name in cut.dependence:
                    claimed = brute.covered(cut.dependence[name], where.shape[1:], cut.shape)
                assert not (reached & ~claimed).any(), f"{cut.key} depends on {name} elsewhere, too"


@pytest.mark.parametrize("block", range(5))
def test_terms_of_random_programs(block: int) -> None:
    for seed in range(30 * block, 30 * block + 30):
        rng = np.random.default_rng(seed)
        checked = Checked(programs.scalar_program(seed, size=6), rng)
        try:
            checked.check(rng)
        except AssertionError as error:
            raise AssertionError(f"program {seed}: {error}\n{checked.jaxpr}") from error


# --- returns --------------------------------------------------------------------------------------


def random_cut(rng: np.random.Generator, number: int, instances: dict[str, tuple[int, ...]]) -> Cut:
    """A term of three axes, with relations of every kind to the instances of some choices."""
    shape = tuple(int(n) for n in rng.integers(1, 13, size=3))
    dependence: dict[Any, Any] = {}
    for name, sizes in instances.items():
        if rng.uniform() < 0.2:
            continue
        places = rng.permutation(3)
        relations: list[Any] = []
        for axis in range(len(sizes)):
            low = float(rng.choice([-np.inf, -9, -2, -1, 0, 0, 1, 2]))
            high = (
                low + float(rng.choice([0, 0, 1, 3, 7, 8, 11]))
                if np.isfinite(low)
                else float(rng.integers(-2, 3))
            )
            high = np.inf if rng.uniform() < 0.2 else high
            relation = (int(places[axis]), low, high) if rng.uniform() < 0.75 else None
            relations.append(relation)
        dependence[name] = tuple(relations)
    return Cut(("term", number), shape, np.dtype(float), dependence)


@pytest.mark.parametrize("seed", range(12))
def test_spread_and_gather_are_sums_over_what_depends(seed: int) -> None:
    """Both against the definition, entry by entry."""
    rng = np.random.default_rng(seed)
    instances = {"a": (5,), "b": (12, 3), "c": (2, 9, 4), "d": ()}
    cuts = [random_cut(rng, number, instances) for number in range(4)]
    held = {name: rng.normal(size=shape) for name, shape in instances.items()}
    terms = [rng.normal(size=cut.shape) for cut in cuts]
    with jax.enable_x64(True):
        sums = jax.jit(lambda held: spread(cuts, held, jnp.float64))(held)
        returns = jax.jit(lambda terms: gather(cuts, terms, instances))(terms)
    wanted = {name: np.zeros(shape) for name, shape in instances.items()}
    for cut, term, found in zip(cuts, terms, sums, strict=True):
        total = np.zeros(cut.shape)
        for name, relations in cut.dependence.items():
            which = brute.covered(relations, instances[name], cut.shape)
            total += np.tensordot(held[name], which, len(instances[name]))
            wanted[name] += np.tensordot(which, term, 3)
        np.testing.assert_allclose(np.broadcast_to(found, cut.shape), total, atol=1e-11)
    for name in instances:
        np.testing.assert_allclose(returns[name], wanted[name], atol=1e-11)
