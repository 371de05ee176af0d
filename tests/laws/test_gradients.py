"""Every family and estimator in every control flow: value, first and second derivative, exactly.

The tolerance is 1e-8 of a number that no randomness enters, so there are no false alarms.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

import ppl
from ppl.estimators import registry

from .cases import COUPLED, ESTIMATORS, FAMILIES, THETA, drawer, integrand, jump_of
from .flows import FLOWS, WHILE
from .laws import KEY, Derivatives, check_exactly, check_forward, truth_of
from .noise_rules import FIRST_ONLY, ONE_DERIVATIVE, TOO_MUCH_NOISE, is_cut, noise_rules

EVERYWHERE = [
    *(("flip", name) for name in FAMILIES["flip"].estimators if name != "reinforce"),
    ("normal", "reparam"),
]
"""Family and estimator, through all control flows; small supports, so that all noise can be integrated.

A score without a baseline is a baseline of zero.
"""

TOO_MANY_NODES = {("normal", "scan_under_vmap"), ("normal", "vmap_under_scan")}
"""Four normal numbers: see `test_statistics`."""

SUMMED = {
    "straight",
    "vmap_independent",
    "fori_loop",
    "jit_twice",
    "checkpoint",
    "custom_jvp",
    "custom_vjp",
    "inner_expect",
}
"""Flows in which a single enumerated choice is summed over, so that nothing is drawn."""

MANY = ("vmap_interacting", "array", "cond_under_vmap", "switch")
"""Where the structure of the flow matters most to choices of more values than two."""

SOME: dict[tuple[str, str], tuple[str, ...]] = {
    ("gamma", "generalized_reparam"): (
        "jit_twice",
        "vmap_interacting",
        "array",
        "scan",
        "cond",
        "inner_expect",
    ),
    ("categorical", "enumerate"): (*MANY, "scan", "vmap_under_scan", "inner_expect"),
    ("categorical", "measure_valued"): (*MANY, "scan", "vmap_under_scan", "inner_expect"),
    ("categorical", "stochastic_triple"): (*MANY, "scan", "inner_expect"),
    ("categorical", "unordered_set"): MANY,
    ("categorical", "leave_one_out"): ("vmap_interacting", "array", "switch"),
    ("categorical", "disarm"): ("vmap_interacting", "array", "switch", "inner_expect"),
    ("binomial", "stochastic_triple"): ("array",),
    ("poisson", "measure_valued"): MANY,
    ("poisson", "stochastic_triple"): ("switch", "vmap_interacting"),
}

PLACES = [
    *((*pair, flow) for pair in EVERYWHERE for flow in FLOWS if (pair[0], flow) not in TOO_MANY_NODES),
    *((*pair, flow) for pair, flows in SOME.items() for flow in flows),
]


def test_every_estimator_is_in_the_registry_of_the_laws() -> None:
    unbiased = {type(e).__name__ for e in registry.ESTIMATORS if not e.biased}
    tested = {type(make(0.5)).__name__ for make in ESTIMATORS.values()}
    assert tested | COUPLED == unbiased and not tested & COUPLED
    pairs = {(family, name) for family, entry in FAMILIES.items() for name in entry.estimators}
    assert {name for _, name in pairs} == set(ESTIMATORS)
    assert {*EVERYWHERE, *SOME, *TOO_MUCH_NOISE} <= pairs


@functools.cache
def known(family: str, flow: str, jump: float | None) -> Derivatives:
    """The truth, which is the same for all estimators."""
    return truth_of(FLOWS[flow].truth(FAMILIES[family].law, integrand(jump)))


@pytest.mark.parametrize(("family", "estimator", "flow"), PLACES, ids=["-".join(p) for p in PLACES])
def test_control_flow(family: str, estimator: str, flow: str) -> None:
    chosen = FAMILIES[family].estimators[estimator]
    draw, f = drawer(FAMILIES[family], chosen), integrand(jump_of(FAMILIES[family], chosen))
    program, truth = FLOWS[flow].program(draw, f), known(family, flow, jump_of(FAMILIES[family], chosen))
    drawn = 0 if chosen.joint and flow in SUMMED else FLOWS[flow].choices
    rules = noise_rules(family, estimator)
    check_exactly(program, truth, second=flow != "custom_vjp", draws=drawn, rules=rules)


FORWARD = [("normal", "reparam"), ("flip", "reinforce"), ("categorical", "baseline")]


@pytest.mark.parametrize(("family", "estimator"), FORWARD)
def test_while_loop_in_forward_mode(family: str, estimator: str) -> None:
    chosen = FAMILIES[family].estimators[estimator]
    draw, f = drawer(FAMILIES[family], chosen), integrand(jump_of(FAMILIES[family], chosen))
    check_forward(WHILE.program(draw, f), WHILE.truth(FAMILIES[family].law, f), draws=3)


STRAIGHT = [
    pytest.param(family, estimator, id=f"{family}-{estimator}")
    for family, entry in FAMILIES.items()
    for estimator in entry.estimators
    if (family, estimator) not in {*EVERYWHERE, *TOO_MUCH_NOISE}
]


@pytest.mark.parametrize(("family", "estimator"), STRAIGHT)
def test_family(family: str, estimator: str) -> None:
    entry, flow = FAMILIES[family], FLOWS["straight"]
    chosen = entry.estimators[estimator]
    jump = jump_of(entry, chosen) if is_cut(family, estimator) else None
    program, truth = flow.program(drawer(entry, chosen), integrand(jump)), known(family, "straight", jump)
    rules = noise_rules(family, estimator)
    check_exactly(
        program, truth, rules=rules, draws=0 if chosen.joint else 1,
        second=(family, estimator) not in ONE_DERIVATIVE, surrogate=estimator not in FIRST_ONLY,
    )  # fmt: skip


@pytest.mark.parametrize("family", ["gamma", "beta"])
def test_second_derivative_of_an_implicit_draw_is_refused(family: str) -> None:
    draw = drawer(FAMILIES[family], ppl.estimators.Reparam())
    objective = ppl.expectation(lambda t: draw(t, "x") ** 2)
    with pytest.raises(ppl.errors.UnsupportedProgram, match=family):
        jax.hessian(lambda t: objective.surrogate(jax.random.key(KEY), t))(jnp.asarray(THETA, jnp.float32))
