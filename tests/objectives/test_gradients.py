"""Every objective: value and derivatives are those of the bound, exactly, whatever estimates the guide.

The tolerance is 1e-8 of a number that no randomness enters, so there are no false alarms.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ppl
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam
from ppl.testing.rules import normal_panels, tanh_sinh, trapezoid

from ..laws.laws import check_exactly
from .problems import CHAIN, COINS, FIXED_COIN, MIXED, NORMAL, Grid, Problem

# The coupled Maxwell variable of a measure-valued normal has the sign of the normal one.
COUPLED = {"normal": normal_panels([0], 12, (-3, 3)), "uniform": tanh_sinh(1 / 6)}
SCORED = {"*": Reinforce()}
CASES: dict[str, tuple[Problem, dict[str, Any]]] = {
    "normal-reparam": (NORMAL, {"*": Reparam()}),
    "normal-reinforce": (NORMAL, {"*": Reinforce(baseline=0.4)}),
    "coins-reinforce": (COINS, SCORED),
    "coins-measure_valued": (COINS, {"*": MeasureValued()}),
    "coins-enumerate": (COINS, {"*": Enumerate()}),
    "coins-both": (COINS, {"a": Reinforce(baseline=-1.0), "b": Enumerate()}),
    "mixed-reinforce": (MIXED, {"b": Reinforce(), "x": Reparam()}),
    "mixed-measure_valued": (MIXED, {"b": MeasureValued(), "x": Reparam()}),
}
cases = pytest.mark.parametrize("case", CASES)


def _draws(problem: Problem, how: dict[str, Any], particles: int) -> int:
    """At least so many; outside lanes nothing is drawn that is summed over."""
    return 0 if Enumerate() in how.values() and particles == 1 else problem.draws * particles


@pytest.mark.parametrize("coefficient", [1.0, 0.4])
@cases
def test_sticking_the_landing(case: str, coefficient: float) -> None:
    problem, how = CASES[case]

    def program(t: Any) -> Any:
        return ppl.sticking_the_landing(problem.target(t), problem.guide(t).using(how), coefficient)

    check_exactly(program, lambda t: problem.grid(t).elbo(), second=False, draws=_draws(problem, how, 1))


def test_sticking_the_landing_of_a_measure_valued_normal() -> None:
    program = lambda t: ppl.sticking_the_landing(
        NORMAL.target(t), NORMAL.guide(t).using({"x": MeasureValued()}), t[0]
    )
    check_exactly(program, lambda t: NORMAL.grid(t).elbo(), second=False, draws=1, rules=COUPLED)


@cases
def test_vargrad(case: str) -> None:
    problem, how = CASES[case]
    program = lambda t: ppl.vargrad(2)(problem.target(t), problem.guide(t).using(how))
    check_exactly(program, lambda t: problem.grid(t).elbo(), second=False, draws=2 * problem.draws)


def test_vargrad_of_three_particles() -> None:
    program = lambda t: ppl.vargrad(3)(COINS.target(t), COINS.guide(t))
    check_exactly(program, lambda t: COINS.grid(t).elbo(), second=False, draws=6)


VIMCO = [(case, 2) for case in CASES] + [(case, 3) for case in CASES if case.startswith("coins")]


@pytest.mark.parametrize(("case", "particles"), VIMCO)
def test_vimco(case: str, particles: int) -> None:
    problem, how = CASES[case]
    program = lambda t: ppl.vimco(particles)(problem.target(t), problem.guide(t).using(how))
    truth = lambda t: problem.grid(t).iwelbo(particles)
    check_exactly(program, truth, draws=_draws(problem, how, particles))


DREG = {
    "normal-1": (NORMAL, 1, {"*": Reparam()}, None),
    "normal-2": (NORMAL, 2, {"*": Reparam()}, None),
    "fixed_coin-reinforce": (FIXED_COIN, 2, {"b": Reinforce(), "x": Reparam()}, None),
    "fixed_coin-enumerate": (FIXED_COIN, 2, {"b": Enumerate(), "x": Reparam()}, None),
    "chain-2": (CHAIN, 2, {"*": Reparam()}, {"normal": trapezoid(0.85, 6.8)}),
}


@pytest.mark.parametrize("case", DREG)
def test_dreg(case: str) -> None:
    problem, particles, how, rules = DREG[case]
    program = lambda t: ppl.dreg(particles)(problem.target(t), problem.guide(t).using(how))
    truth = lambda t: problem.grid(t).iwelbo(particles)
    check_exactly(program, truth, second=False, draws=problem.draws * particles, rules=rules)


def test_objectives_of_distributions() -> None:
    """A target and a guide that are families, without addresses."""
    target, guide = ppl.normal(0.3, 1.2), lambda t: ppl.normal(t[0], jnp.exp(0.2 * t[1]))
    bounds = {
        "sticking": ppl.sticking_the_landing, "dreg": ppl.dreg(1), "vargrad": ppl.vargrad(2),
    }  # fmt: skip

    def divergence(t: Any) -> Any:
        mean, sd = t[0], jnp.exp(0.2 * t[1])
        return jnp.log(1.2 / sd) + (sd**2 + (mean - 0.3) ** 2) / (2 * 1.2**2) - 0.5

    for bound in bounds.values():
        check_exactly(lambda t: bound(target, guide(t)), lambda t: -divergence(t), second=False, draws=1)  # noqa: B023
    program = lambda t: ppl.vimco(2)(ppl.flip(0.3), ppl.flip(jax.nn.sigmoid(t[0])).using(Reinforce()))
    check_exactly(program, lambda t: _coin(t).iwelbo(2), draws=2)


def _coin(t: Any) -> Grid:
    p = jnp.stack([1 - jax.nn.sigmoid(t[0]), jax.nn.sigmoid(t[0])])
    return Grid(p, jnp.log(jnp.array([0.7, 0.3])), jnp.log(p))
