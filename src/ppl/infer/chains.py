"""Posterior draws by Markov chains, and how far they can be trusted."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ppl.address import show
from ppl.choices import Choices
from ppl.compiled import compiled
from ppl.errors import NonFiniteObjective, UnsupportedProgram
from ppl.families import uniform
from ppl.infer.algorithm import unobserved
from ppl.infer.keyed import keyed
from ppl.infer.moves.move import Density, Info, Move, density_of
from ppl.infer.optional import blackjax
from ppl.measure import Measure
from ppl.noise import check_key
from ppl.source import user_line
from ppl.transforms.stage import split, stage
from ppl.unconstrained import unconstrained

ATTEMPTS = 20
"""How many points a chain tries to begin from."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chains:
    """Draws of Markov chains; a pytree.

    Attributes:
        choices: of each chain and draw, along two leading axes.
        log_density: of the target at each.
        acceptance: the probability with which each step was accepted.
        divergent: whether a trajectory went wrong there, as where the density is curved too much.
    """

    choices: Choices
    log_density: jax.Array
    acceptance: jax.Array
    divergent: jax.Array

    @property
    def flat(self) -> Choices:
        """The choices, chains one after the other, along one leading axis."""
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), self.choices)

    def mean(self, function: Any) -> Any:
        """The mean of a function of the choices; an array, or a pytree of them."""
        values = jax.vmap(function)(self.flat)
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), values)

    @property
    def rhat(self) -> Choices:
        """For each number in the choices, the rank-normalized split R-hat: above 1.01 chains disagree.

        Not a number where all draws are equal.

        Reference: Vehtari, Gelman, Simpson, Carpenter, Bürkner, "Rank-normalization, folding, and
        localization: an improved R-hat for assessing convergence of MCMC", 2021.
        """
        return jax.tree.map(_diagnostic("rhat"), self.choices)

    @property
    def effective(self) -> Choices:
        """For each number in the choices, how many independent draws they are worth: the bulk ESS.

        Reference: as `rhat`.
        """
        return jax.tree.map(_diagnostic("ess_bulk"), self.choices)


@functools.cache
def _diagnostic(name: str) -> Callable[[jax.Array], jax.Array]:
    """A diagnostic of BlackJAX, of every number in an array."""
    diagnostic = jax.jit(getattr(blackjax("diagnostics"), name))

    def of(x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            x = x.astype(float)
        return diagnostic(x) if x.size else jnp.zeros(x.shape[2:], x.dtype)

    return of


class _Found(NamedTuple):
    chains: Chains
    started: jax.Array


def chains(
    target: Measure, move: Move, *, key: jax.Array, draws: int = 1000, warmup: int = 1000, chains: int = 4,
    initial: Any = None,
) -> Chains:  # fmt: skip
    """Draws of a target by Markov chains, side by side.

    During warmup `HMC` and `NUTS` adapt step size and mass matrix to the target, each chain by itself; other
    moves make as many steps, which are dropped.

    Args:
        target: a conditioned program, or one without observations.
        move: of `ppl.infer`: `NUTS()`, `Regenerate("x")`, or a `Cycle` of them.
        key: the only source of randomness.
        draws: of each chain.
        warmup: steps of each chain before.
        chains: how many; they are lanes of one `jax.vmap`.
        initial: choices to begin from, with chains along a leading axis. By default a continuous target
            begins from uniform points between -2 and 2 in unconstrained space, any other from draws of its
            program; of 20 the first of finite density.

    Returns:
        `Chains`. Look at `rhat` and `effective` before anything else.

    Raises:
        NonFiniteObjective: no point of finite density was found.
        UnsupportedProgram: the target is no program, its density is estimated, or the move does not suit it.

    Warns:
        RuntimeWarning: trajectories diverged.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> found = ppl.infer.chains(
        ...     model().condition({"y": 1.0}), ppl.infer.RandomWalk(1.5), key=jax.random.key(0)
        ... )
        >>> found.choices["x"].shape, float(found.mean(lambda choices: choices["x"]).round(1))
        ((4, 1000), 0.5)
        >>> bool(found.rhat["x"] < 1.02), bool(found.effective["x"] > 400)
        (True, True)

    Reference: Stan Development Team, "Stan reference manual", 2024 (the windows of the warmup).
    """
    if not isinstance(target, Measure):
        raise TypeError(f"chains takes a measure, got {target!r} ({user_line()})")
    if not isinstance(move, Move):
        raise TypeError(f"chains takes a move of ppl.infer, got {move!r} ({user_line()})")
    for name, number in (("draws", draws), ("chains", chains)):
        if isinstance(number, bool) or not hasattr(number, "__index__") or number < 1:
            raise ValueError(f"{name} is a Python integer of at least one, got {number!r}")
    initial = None if initial is None else Choices(initial)
    found = compiled(_run, target, move, check_key(key), (draws, warmup, chains), initial)
    return _checked(found, target, move)


def _checked(found: _Found, target: Measure, move: Move) -> Chains:
    """The chains, if they began somewhere; divergences are warned about."""
    if isinstance(found.started, Tracer):
        return found.chains
    if not np.all(found.started):
        raise NonFiniteObjective(
            f"{int(np.sum(~found.started))} of {len(found.started)} chains found no point of finite density "
            f"of {target!r} in {ATTEMPTS} attempts. Give them some: `initial=`, choices with a leading axis "
            f"of chains ({user_line()})."
        )
    if divergent := int(np.sum(found.chains.divergent)):
        warnings.warn(
            f"{divergent} of {found.chains.divergent.size} steps diverged: {move!r} misses where the density "
            f"of {target!r} is strongly curved, and its draws are biased. Choose a smaller step size (where "
            "it is adapted, an `acceptance` nearer to one), more warmup, or another parameterization.",
            RuntimeWarning,
            stacklevel=3,
        )
    return found.chains


def _run(target: Measure, move: Move, key: jax.Array, numbers: Any, initial: Choices | None) -> _Found:
    return keyed(lambda: _program(target, move, numbers, initial), key)


def _program(target: Measure, move: Move, numbers: Any, initial: Choices | None) -> _Found:
    """Inside a program: all chains."""
    draws, warmup, count = numbers
    density = density_of(target, "chains")

    def one(given: Choices | None) -> _Found:
        candidates = _candidates(density) if given is None else jax.tree.map(lambda x: x[None], given)
        scores = jax.vmap(density.log_density)(candidates)
        place = jnp.argmax(jnp.isfinite(scores))
        first: Any = jax.tree.map(lambda x: x[place], candidates)
        adapted, first = move.adapted(density, first, warmup) if warmup else (move, first)
        kernel = adapted.start(density, first)

        def step(state: Any, _: Any) -> tuple[Any, tuple[Choices, Info]]:
            state, info = kernel.step(state)
            return state, (kernel.choices(state), info)

        _, (choices, info) = jax.lax.scan(step, kernel.state, None, length=draws)
        made = Chains(choices, jax.vmap(density.log_density)(choices), info.acceptance, info.divergent)
        return _Found(made, jnp.isfinite(scores[place]))

    if initial is None:
        return jax.vmap(lambda _: one(None))(jnp.arange(count))
    return jax.vmap(one)(_fitting(density, initial, count))


def _candidates(density: Density) -> Choices:
    """Points to begin from, along a leading axis."""
    lanes = jnp.arange(ATTEMPTS)
    try:
        latent = unconstrained(density.target)
    except UnsupportedProgram:  # a choice has no unconstrained form
        drawn = lambda _: density.target.propose_given({}, ())[0].choices
        return unobserved(density.target, jax.vmap(drawn)(lanes))
    anywhere = uniform(-2.0 * jnp.ones(latent.size), 2.0)
    return jax.vmap(lambda _: latent.constrain(anywhere.propose().retval)[0])(lanes)


def _fitting(density: Density, initial: Choices, count: int) -> Choices:
    """The given points, in the dtypes of the program.

    Raises:
        ValueError: there are more or fewer than chains.
    """
    drawn = lambda: unobserved(density.target, density.target.propose_given({}, ())[0].choices)
    shapes = stage(drawn, split(((), {})))
    wanted: Any = jax.tree.unflatten(shapes.tree, list(shapes.jaxpr.out_avals))
    if jax.tree.structure(initial) != jax.tree.structure(wanted):
        names = [", ".join(show(address) for address, _ in each.leaves()) for each in (wanted, initial)]
        raise ValueError(
            f"initial holds every latent choice of the target, and no other: {names[0]}; got {names[1]}"
        )

    def one(x: Any, aval: Any) -> jax.Array:
        if jnp.shape(x) != (count, *aval.shape):
            raise ValueError(
                f"initial has {count} chains along a leading axis: shape {(count, *aval.shape)} is wanted, "
                f"got {jnp.shape(x)}"
            )
        return jnp.asarray(x, aval.dtype)

    return jax.tree.map(one, initial, wanted)
