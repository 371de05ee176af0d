"""Variance times time of every gradient estimator on four problems, beside GenJAX, NumPyro and Pyro.

All estimate the same gradient, of an ELBO in the parameters of its guide, at the same parameters and
data; the exact one is known. Of each estimator many gradients are drawn, in turns with all others: their
variance, the time of one, and their mean against the exact gradient. With the same budget of time the
error of a mean is proportional to the product of variance and time, so that this product is what to
compare.

    python benchmarks/estimators.py [--rounds 1000] [--seconds 5] [--problems vae hmm ...] [--no-peers]

Fails if an estimator of ours that does not say that it is biased has another mean. Pyro runs where `make
bench-peers` has made its environment.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import _genjax
import _lanes
import _numpyro
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _contest import DIRECTIONS, ERRORS, Moments, drawn, pyro, race
from _problem import Problem, layers, network
from _problems import PROBLEMS
from _timing import table

import ppl


class Entry(NamedTuple):
    """An estimator of ours.

    Attributes:
        name: as it is printed: how a user writes it.
        needs: the class in `ppl.estimators`; the entry is left out where it does not exist.
        make: the estimator, from that class and what the program knows at the choice.
        problems: where it is tried; everywhere, if empty. It is left out where the family does not admit it.
        samples: how many runs `num_samples` averages.
        tuned: parameters of its own, from a seed and the size of the latents; trained before it is measured.
    """

    name: str
    needs: str
    make: Callable[[Any, Any], Any]
    problems: tuple[str, ...] = ()
    samples: int = 1
    tuned: Callable[[np.random.Generator], Any] | None = None


def predicted(tuned: Any, image: Any) -> Any:
    """A baseline for each image."""
    return network(tuned, image.astype(jnp.float32))


def control(tuned: Any, image: Any, relaxed: Any, z: Any) -> Any:
    """The program at relaxed bits, and a network that learns what is missing."""
    bits = jax.nn.sigmoid(z / jnp.exp(tuned["log_temperature"]))
    seen = jnp.concatenate([bits, image.astype(jnp.float32)])
    return relaxed(bits) + network(tuned["network"], seen)[0]


def relax(cls: Any, at: Any) -> Any:
    return cls(partial(control, at.tuned, at.datum, at.relaxed), whole=True)


def control_parameters(rng: np.random.Generator) -> Any:
    first, (w, b) = layers(rng, 16 + 64, 32, 1)
    return {"log_temperature": jnp.zeros(()), "network": [first, (0.0 * w, b)]}


def learned(cls: Any, at: Any) -> Any:
    return cls(baseline=ppl.estimators.baselines.Learned(predicted(at.tuned, at.datum)))


def per_lane(cls: Any, at: Any) -> Any:
    """An average for each choice that a lane makes."""
    return cls(baseline=ppl.estimators.baselines.MovingAverage(per_lane=True))


plain = lambda cls, at: cls()
coupled = lambda cls, at: cls(ppl.estimators.MeasureValued())
# Where the noise of the choice can be spread over runs; a gamma's cannot.
DISCRETE = ("vae", "hmm", "mixture")

# The first is what all others are measured by.
ENTRIES = (
    Entry("Reinforce()", "Reinforce", plain),
    Entry('Reinforce("average")', "Reinforce", lambda cls, at: cls(baseline="average")),
    Entry("Reinforce(MovingAverage(per_lane=True))", "Reinforce", per_lane),
    Entry('Reinforce("loo"), 4 samples', "Reinforce", lambda cls, at: cls(baseline="loo"), samples=4),
    Entry("Reinforce(Learned())", "Reinforce", learned, ("vae",), tuned=lambda rng: layers(rng, 64, 32, 1)),
    Entry("LeaveOneOut(4)", "LeaveOneOut", lambda cls, at: cls(samples=4)),
    Entry("MeasureValued()", "MeasureValued", plain),
    Entry("Enumerate()", "Enumerate", plain),
    Entry("StochasticTriple()", "StochasticTriple", plain),
    Entry("UnorderedSet(2)", "UnorderedSet", lambda cls, at: cls(samples=2)),
    Entry("UnorderedSet(4)", "UnorderedSet", lambda cls, at: cls(samples=4), ("mixture",)),
    Entry("DisARM()", "DisARM", plain),
    Entry("ARM()", "ARM", plain),
    Entry("Relax(control)", "Relax", relax, ("vae",), tuned=control_parameters),
    Entry("Rebar(relaxed)", "Rebar", lambda cls, at: cls(at.relaxed, whole=True), ("vae",)),
    Entry("Reparam()", "Reparam", plain),
    Entry("GeneralizedReparam()", "GeneralizedReparam", plain),
    Entry("RejectionReparam()", "RejectionReparam", plain),
    Entry("Antithetic(MeasureValued()), 4 samples", "Antithetic", coupled, DISCRETE, samples=4),
    Entry("QuasiMonteCarlo(MeasureValued()), 4 samples", "QuasiMonteCarlo", coupled, DISCRETE, samples=4),
    Entry("GumbelSoftmax(0.5)", "GumbelSoftmax", lambda cls, at: cls(0.5), ("vae",)),
    Entry("StraightThrough()", "StraightThrough", plain, ("vae",)),
    Entry("GumbelRao(0.5)", "GumbelRao", lambda cls, at: cls(0.5), ("vae",)),
)

TUNING = 500
"""Steps in which an estimator's own parameters and averages are trained, the guide's held fixed."""


def class_of(entry: Entry) -> Any:
    """The estimator's class, or nothing where it does not exist."""
    return getattr(ppl.estimators, entry.needs, None)


def is_biased(entry: Entry) -> bool:
    """Whether the estimator says so of itself; one that wraps another says it of its instances only."""
    return class_of(entry).biased is True


def gradient_of(
    problem: Problem, entry: Entry, tuning: int = TUNING
) -> tuple[Callable[[Any, Any], Any], Any]:
    """Our gradient as a function of a key and arguments, and these.

    Raises:
        EstimatorNotAdmitted: the family does not admit the estimator.
    """
    cls = class_of(entry)
    relaxed = (entry.make(cls, None),) if is_biased(entry) else ()
    objective = problem.objective(lambda at: entry.make(cls, at), *relaxed)
    tuned = None if entry.tuned is None else entry.tuned(np.random.default_rng(0))
    state = objective.initial_state(problem.params, tuned)
    if tuned is not None or state:
        state, tuned = trained(objective, state, problem.params, tuned, tuning)

    def gradient(key: Any, arguments: Any) -> Any:
        params, tuned, state = arguments
        if state:
            return objective.learn(key, state, params, tuned, num_samples=entry.samples).grad
        return objective.grad(key, params, tuned, num_samples=entry.samples)

    return gradient, (problem.params, tuned, state)


def trained(objective: Any, state: Any, params: Any, tuned: Any, steps: int) -> tuple[Any, Any]:
    """The estimator's state and parameters after some steps, the guide's parameters held fixed."""
    optimizer = optax.adam(0.01)
    numbers = (0,) if tuned is None else (0, 1)

    def step(carry: Any, key: Any) -> Any:
        state, tuned, memory = carry
        found = objective.learn(key, state, params, tuned, argnums=numbers)
        if tuned is not None:
            # `learn` ascends; Adam descends.
            updates, memory = optimizer.update(jax.tree.map(jnp.negative, found.grad[1]), memory)
            tuned = optax.apply_updates(tuned, updates)
        return (found.state, tuned, memory), None

    start = (state, tuned, None if tuned is None else optimizer.init(tuned))
    run = jax.jit(lambda start, keys: jax.lax.scan(step, start, keys)[0])
    state, tuned, _ = run(start, jax.random.split(jax.random.key(1), steps))
    return state, tuned


def ours(problem: Problem) -> tuple[dict[str, Any], set[str]]:
    """Our contestants, and which of them are biased."""
    draws, biased = {}, set()
    for number, entry in enumerate(ENTRIES):
        if class_of(entry) is None or (entry.problems and problem.name not in entry.problems):
            continue
        try:
            function, arguments = gradient_of(problem, entry)
            draw = drawn(problem, function, number, arguments)
            draw(0)
        except ppl.errors.EstimatorNotAdmitted:
            continue
        name = f"ppl {entry.name}"
        draws[name] = draw
        biased |= {name} if is_biased(entry) else set()
    return draws, biased


def others(problem: Problem) -> tuple[dict[str, Any], dict[str, str]]:
    """GenJAX's and NumPyro's contestants, and why others of theirs cannot take part."""
    draws, reasons = {}, {}
    for seed, (library, module) in enumerate({"GenJAX": _genjax, "NumPyro": _numpyro}.items()):
        for name, function in module.PROBLEMS[problem.name](problem).items():
            draw = drawn(problem, function, 100 + seed)
            try:
                draw(0)
            except Exception as error:
                reasons[f"{library} {name}"] = f"cannot: raises {type(error).__name__}"
            else:
                draws[f"{library} {name}"] = draw
    return draws, reasons


HEADER = (
    "problem", "estimator", "variance", "error %", "ms", "variance x time", "mean", "error", "off", "",
)  # fmt: skip


def row(problem: Problem, name: str, found: Moments, base: Moments, biased: set[str]) -> tuple[str, ...]:
    """A line of the table; variance, and variance times time, relative to our plain score function."""
    mean, error = found.along
    wrong = "" if found.unbiased else "biased, and says so" if name in biased else "WRONG MEAN"
    ratio = found.variance / base.variance
    product = "" if wrong == "WRONG MEAN" else f"{ratio * found.time / base.time:.2g}"
    return (
        problem.name, name, f"{ratio:.2g}", f"{100 * found.variance_error:.0f}", f"{1e3 * found.time:.2f}",
        product, f"{mean:.3f}", f"{error:.3f}", f"{min(found.off, 999):.1f}", wrong,
    )  # fmt: skip


def measured(
    problem: Problem, rounds: int, seconds: float, peers: bool
) -> tuple[list[tuple[str, ...]], list[str]]:
    """The lines of one problem, and which of ours have a wrong mean."""
    draws, biased = ours(problem)
    own, reasons = list(draws), {}
    if peers:
        found, reasons = others(problem)
        draws |= found
    with pyro(problem) as pyros:
        if peers:
            draws |= {f"Pyro {name}": draw for name, draw in pyros.items()}
            reasons |= {} if pyros else {"Pyro": "not here: make bench-peers"}
        results = race(draws, problem.truth(), rounds, seconds)
    base = results[own[0]]
    rows = [row(problem, name, found, base, biased) for name, found in results.items()]
    rows += [(problem.name, name, *[""] * 7, reason) for name, reason in reasons.items()]
    return rows, [f"{problem.name}: {n}" for n in own if not results[n].unbiased and n not in biased]


def main(rounds: int, seconds: float, problems: list[str], peers: bool) -> None:
    rows, wrong = [], []
    for name in problems:
        problem = PROBLEMS[name]()
        found, bad = measured(problem, rounds, seconds, peers)
        print(f"{name}: {problem.title}", flush=True)
        rows, wrong = rows + found, wrong + bad
    print(
        f"\n{rounds} gradients each, fewer where they take over {seconds:g} s; on {jax.devices()[0]}.\n"
        "variance: relative to the first line of the problem, and its standard error. ms: the median.\n"
        "mean: along the exact gradient, where 1 is right, and its standard error. off: how many standard\n"
        f"errors the mean is off in the worst of {1 + DIRECTIONS} directions; over {ERRORS:g} is wrong.\n"
    )
    print(table(HEADER, rows))
    absent = [entry.name for entry in ENTRIES if class_of(entry) is None]
    if absent:
        print(f"\nNot in this version: {', '.join(absent)}")
    print()
    _lanes.main(peers)
    if wrong:
        raise SystemExit(f"wrong means: {'; '.join(wrong)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    main(**vars(parser.parse_args()))
