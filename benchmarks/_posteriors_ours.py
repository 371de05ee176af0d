"""The methods of `ppl`, by its public names only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from _posteriors_method import ACCEPTANCE, FLOW, Cannot, Draws, Method, Sizes, optimizer
from _posteriors_problems import Posterior

import ppl
from ppl import guides, infer

CHAINS = 4


def _values(choices: Any) -> dict[str, Any]:
    return {"/".join(address): x for address, x in choices.leaves()}


def guided(make: Callable[[Any], Any], rate: float = 1.0) -> Method:
    """Trains a ready-made guide, and draws from it."""

    def run(posterior: Posterior, key: jax.Array, sizes: Sizes) -> Draws:
        keys = jax.random.split(key, 3)
        try:
            guide = make(posterior.target)
        except ppl.UnsupportedProgram as error:
            raise Cannot(str(error)) from error

        @ppl.expectation
        def objective(params):
            return ppl.elbo(posterior.target, guide(params).using(posterior.estimators))

        params = ppl.fit(
            objective, guide.initial(keys[0]), optimizer(sizes, rate), key=keys[1], steps=sizes.steps,
            num_samples=sizes.batch, progress=False,
        ).params  # fmt: skip
        return drawn(guide(params), keys[2], sizes.draws)

    return run


def drawn(measure: ppl.Measure, key: jax.Array, draws: int) -> Draws:
    many = jax.jit(jax.vmap(lambda key: measure.simulate(key).choices))
    return Draws(_values(many(jax.random.split(key, draws))))


def laplace(posterior: Posterior, key: jax.Array, sizes: Sizes) -> Draws:
    first, second = jax.random.split(key)
    try:
        found = guides.laplace(posterior.target, first)
    except ppl.UnsupportedProgram as error:
        raise Cannot(str(error)) from error
    return drawn(found.measure, second, sizes.draws)


def particles(make: Callable[[Posterior, jax.Array, Sizes], infer.Algorithm]) -> Method:
    """Weighted particles of an algorithm."""

    def run(posterior: Posterior, key: jax.Array, sizes: Sizes) -> Draws:
        first, second = jax.random.split(key)
        try:
            found = infer.run(posterior.target, make(posterior, first, sizes), key=second)
        except ppl.UnsupportedProgram as error:
            raise Cannot(str(error)) from error
        return Draws(_values(found.choices), found.weights)

    return run


def importance(posterior: Posterior, key: jax.Array, sizes: Sizes) -> infer.Algorithm:
    """Particles of the prior."""
    return infer.Importance(sizes.draws)


def smc(posterior: Posterior, key: jax.Array, sizes: Sizes) -> infer.Algorithm:
    """Resampled at the steps of a program's own loop."""
    return infer.SMC(sizes.draws, resampling=infer.Systematic(), threshold=0.5)


def moves(posterior: Posterior) -> infer.Move:
    """What moves any of the targets: Hamiltonian trajectories, and where a choice is discrete, new draws."""
    if posterior.how == "summed":
        return infer.Cycle(infer.Regenerate("when"), infer.HMC(0.1, 5, only=("early", "late")))
    return infer.Cycle(infer.HMC(0.3, 5), infer.HMC(0.05, 5))


def tempered(posterior: Posterior, key: jax.Array, sizes: Sizes) -> infer.Algorithm:
    """From the prior to the posterior, by temperatures that a pilot run finds."""
    move = infer.Repeat(moves(posterior), 3)
    found = infer.temperatures(posterior.target, move, key=key, particles=200)
    return infer.Tempered(sizes.particles, move, found, resampling=infer.Systematic())


def pathfinder(posterior: Posterior, key: jax.Array, sizes: Sizes) -> infer.Algorithm:
    return infer.Pathfinder(sizes.draws, paths=8)


def nuts(posterior: Posterior, key: jax.Array, sizes: Sizes) -> Draws:
    """Four chains; beside new draws of a discrete choice, and of all, if there is one."""
    move: infer.Move = infer.NUTS(acceptance=ACCEPTANCE)
    if posterior.how == "summed":
        # The year and the rates hold each other in one of several modes. All three drawn anew are seldom
        # accepted, but cheap.
        again = infer.Repeat(infer.Regenerate("when", "early", "late"), 100)
        year = infer.Repeat(infer.Regenerate("when"), 20)
        move = infer.Cycle(again, year, infer.NUTS(only=("early", "late"), acceptance=ACCEPTANCE))
    found = infer.chains(
        posterior.target, move, key=key, draws=sizes.chain, warmup=sizes.chain // 2, chains=CHAINS
    )
    return Draws(_values(found.flat), effective=min(float(x.min()) for x in jax.tree.leaves(found.effective)))


METHODS: dict[str, Method] = {
    "mean field": guided(guides.MeanField),
    "ASVI": guided(guides.ASVI),
    "full rank": guided(guides.FullRank),
    "low rank": guided(lambda target: guides.LowRank(target, rank=2)),
    "Laplace": laplace,
    "flow": guided(guides.Flow, FLOW),
    "importance": particles(importance),
    "SMC": particles(smc),
    "tempered": particles(tempered),
    "Pathfinder": particles(pathfinder),
    "NUTS": nuts,
}
