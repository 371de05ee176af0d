"""Every family and estimator in every control flow: value, first and second derivative, exactly.

The tolerance is 1e-8 of a number that no randomness enters, so there are no false alarms.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import ppl
from ppl.testing.rules import Rule, log_gamma, normal_panels, tanh_sinh, uniform_panels

from .cases import FAMILIES, THETA, drawer, integrand, jump_of
from .flows import FLOWS, WHILE
from .laws import KEY, check_exactly, check_forward

EVERYWHERE = [
    ("flip", "enumerate"),
    ("flip", "measure_valued"),
    ("flip", "baseline"),
    ("normal", "reparam"),
]
"""Family and estimator, through all control flows; small supports, so that all noise can be integrated."""

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

SOME = [("categorical", "enumerate"), ("categorical", "measure_valued"), ("poisson", "measure_valued")]
"""More values than two, where the structure of the flow matters most."""

PLACES = [
    *((*pair, flow) for pair in EVERYWHERE for flow in FLOWS if (pair[0], flow) not in TOO_MANY_NODES),
    *((*pair, flow) for pair in SOME for flow in ("vmap_interacting", "array", "cond_under_vmap", "switch")),
    *((*pair, flow) for pair in SOME[:2] for flow in ("scan", "vmap_under_scan", "inner_expect")),
]


@pytest.mark.parametrize(("family", "estimator", "flow"), PLACES, ids=["-".join(p) for p in PLACES])
def test_control_flow(family: str, estimator: str, flow: str) -> None:
    chosen = FAMILIES[family].estimators[estimator]
    draw, f = drawer(FAMILIES[family], chosen), integrand(jump_of(FAMILIES[family], chosen))
    program, truth = FLOWS[flow].program(draw, f), FLOWS[flow].truth(FAMILIES[family].law, f)
    drawn = 0 if chosen.joint and flow in SUMMED else FLOWS[flow].choices
    check_exactly(program, truth, second=flow != "custom_vjp", draws=drawn)


FORWARD = [("normal", "reparam"), ("flip", "reinforce"), ("categorical", "baseline")]


@pytest.mark.parametrize(("family", "estimator"), FORWARD)
def test_while_loop_in_forward_mode(family: str, estimator: str) -> None:
    chosen = FAMILIES[family].estimators[estimator]
    draw, f = drawer(FAMILIES[family], chosen), integrand(jump_of(FAMILIES[family], chosen))
    check_forward(WHILE.program(draw, f), WHILE.truth(FAMILIES[family].law, f), draws=3)


def _rules(family: str, jump: float) -> dict[str, Rule]:
    """Rules whose panels end where the value crosses the jump, as the noise does it."""
    distribution = FAMILIES[family].measure(THETA).numpyro
    if family == "normal":
        return {"normal": normal_panels([(jump - distribution.loc) / distribution.scale])}
    if family == "exponential":
        return {"uniform": uniform_panels([np.exp(-distribution.rate * jump)])}
    below = scipy.special.gammainc(distribution.concentration, distribution.rate * jump)
    return {"log_gamma": log_gamma(normal_panels([scipy.stats.norm.ppf(below)]))}


COUPLINGS = {
    # The coupled Maxwell variable has the sign of the normal one.
    "normal": {"normal": normal_panels([0], 12, (-3, 3)), "uniform": tanh_sinh(1 / 6)},
    # One of the trials, picked at random.
    "binomial": {"uniform": Rule(np.array([1, 3, 5]) / 6, np.full(3, 1 / 3))},
}
"""Rules for the noise inside measure-valued derivatives that jumps by itself."""

ONE_NOISE = {"normal", "exponential", "gamma"}
ONE_ORDER = {("gamma", "reparam"), ("beta", "reparam")}
TOO_MANY = {("gamma", "measure_valued")}
STRAIGHT = [
    pytest.param(family, estimator, id=f"{family}-{estimator}")
    for family, entry in FAMILIES.items()
    for estimator in entry.estimators
    if (family, estimator) not in {*EVERYWHERE, *TOO_MANY}
]


@pytest.mark.parametrize(("family", "estimator"), STRAIGHT)
def test_family(family: str, estimator: str) -> None:
    entry = FAMILIES[family]
    chosen = entry.estimators[estimator]
    scored = isinstance(chosen, ppl.estimators.Reinforce) and family in ONE_NOISE
    with jax.enable_x64(True):
        rules = _rules(family, entry.jump) if scored else None
    if isinstance(chosen, ppl.estimators.MeasureValued):
        rules = COUPLINGS.get(family)
    # The noise of one draw can be cut where the value crosses a jump, that of several cannot.
    smooth = family in {*ONE_NOISE, "beta"} and not scored
    f = integrand(None if smooth else entry.jump)
    flow = FLOWS["straight"]
    check_exactly(
        flow.program(drawer(entry, chosen), f), flow.truth(entry.law, f), rules=rules,
        second=(family, estimator) not in ONE_ORDER, draws=0 if chosen.joint else 1,
    )  # fmt: skip


@pytest.mark.parametrize("family", ["gamma", "beta"])
def test_second_derivative_of_an_implicit_draw_is_refused(family: str) -> None:
    draw = drawer(FAMILIES[family], ppl.estimators.Reparam())
    objective = ppl.expectation(lambda t: draw(t, "x") ** 2)
    with pytest.raises(ppl.errors.UnsupportedProgram, match=family):
        jax.hessian(lambda t: objective.surrogate(jax.random.key(KEY), t))(jnp.asarray(THETA, jnp.float32))
