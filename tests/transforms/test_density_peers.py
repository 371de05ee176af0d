"""Log densities of programs, against NumPyro's `log_density` and GenJAX's `assess` of the same model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as npd
import pytest
from numpyro.contrib.control_flow import cond as numpyro_cond
from numpyro.contrib.control_flow import scan as numpyro_scan
from numpyro.infer.util import log_density

XS = (0.3, -0.7, 1.1, 0.2)
GRID = ((0.1, -0.4, 0.9), (1.3, 0.2, -0.6))


def numpyro_straight():
    x = numpyro.sample("x", npd.Normal(0.3, 1.2))
    y = numpyro.sample("y", npd.Gamma(2.5, jnp.exp(x) * 1.7))
    k = numpyro.sample("k", npd.Poisson(y))
    numpyro.sample("b", npd.Bernoulli(logits=x - k))


def numpyro_nested():
    def pair(loc, prefix):
        a = numpyro.sample(prefix + "a", npd.Normal(loc, 0.5))
        return a + numpyro.sample(prefix + "b", npd.Laplace(a, 2.0))

    pair(pair(pair(0.4, "left/"), "deep/right/"), "")


def numpyro_jit():
    m = 0.4
    numpyro.sample("x", npd.Normal(jnp.sin(m), 1.5))
    numpyro.sample("y", npd.Normal(m, 0.5))


def numpyro_plate():
    with numpyro.plate("lanes", 4):
        z = numpyro.sample("z", npd.Normal(0.0, 1.0))
        numpyro.sample("x", npd.Normal(z * jnp.array(XS), 0.7))


def numpyro_plates():
    with numpyro.plate("rows", 2, dim=-2):
        shift = numpyro.sample("shift", npd.Normal(0.0, 2.0))
        with numpyro.plate("columns", 3, dim=-1):
            numpyro.sample("x", npd.Normal(jnp.array(GRID) + shift, 1.0))


def numpyro_chain(carry, drift):
    carry = numpyro.sample("x", npd.Normal(0.9 * carry + drift, 0.4))
    return carry, numpyro.sample("y", npd.Normal(carry, 1.0))


def numpyro_scan_of_plate():
    def step(carry, drift):
        with numpyro.plate("lanes", 3):
            return numpyro.sample("x", npd.Normal(0.9 * carry + drift, 0.4)), None

    numpyro_scan(step, jnp.full(3, 0.5), jnp.array(GRID))


def numpyro_branch():
    x = numpyro.sample("x", npd.Normal(0.5, 1.0))
    with numpyro.handlers.mask(mask=x > 0):
        numpyro.sample("y", npd.Exponential(1.0 + x**2))


def numpyro_either():
    x = numpyro.sample("x", npd.Normal(0.5, 1.0))
    numpyro_cond(
        x > 0,
        lambda x: numpyro.sample("y", npd.Normal(x, 0.5)),
        lambda x: numpyro.sample("y", npd.Normal(0.0, 3.0)),
        x,
    )


def numpyro_switch():
    k = numpyro.sample("k", npd.Categorical(probs=jnp.array([0.2, 0.5, 0.3])))
    with numpyro.handlers.mask(mask=k == 0):
        numpyro.sample("y0", npd.Normal(0.0, 1.0))
    with numpyro.handlers.mask(mask=k == 1):
        numpyro.sample("y1", npd.Laplace(1.0, 2.0))
    with numpyro.handlers.mask(mask=k == 2):
        numpyro.sample("y2", npd.Normal(3.0, 0.5))
        numpyro.sample("only", npd.Normal(-1.0, 1.0))


def _switch_values(choices: dict[str, Any]) -> dict[str, Any]:
    return choices | {name: choices["y"] for name in ("y0", "y1", "y2")}


def _column_of_shifts(choices: dict[str, Any]) -> dict[str, Any]:
    return choices | {"shift": np.asarray(choices["shift"])[:, None]}


def _in_order_of_steps(choices: dict[str, Any]) -> dict[str, Any]:
    """NumPyro takes given values in the order of execution, not in that of the array."""
    return {name: value[::-1] for name, value in choices.items()}


def _flat(choices: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in choices.items():
        flat |= _flat(value, prefix + name + "/") if isinstance(value, dict) else {prefix + name: value}
    return flat


# Not here: `vmap_of_scan` and `vmap_of_cond` (NumPyro has no vmap over effectful primitives), `fori_loop`
# and `checkpoint_and_custom_derivatives` (no counterpart), `scan_of_cond` (NumPyro needs a choice in
# both branches and has no masks that vary by step inside `cond`).
NUMPYRO: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "straight": (numpyro_straight, _flat),
    "nested": (numpyro_nested, _flat),
    "jit": (numpyro_jit, _flat),
    "vmap": (numpyro_plate, _flat),
    "array_parameters": (
        lambda: numpyro.sample("x", npd.Normal(jnp.array(GRID), jnp.array([1.0, 0.5, 2.0]))),
        _flat,
    ),
    "scan": (lambda: numpyro_scan(numpyro_chain, 0.5, jnp.array(XS)), _flat),
    "scan_reverse": (
        lambda: numpyro_scan(numpyro_chain, 0.5, jnp.array(XS), reverse=True),
        _in_order_of_steps,
    ),
    "scan_of_vmap": (numpyro_scan_of_plate, _flat),
    "vmap_of_vmap": (numpyro_plates, _column_of_shifts),
    "cond_taken": (numpyro_branch, _flat),
    "cond_not_taken": (numpyro_branch, _flat),
    "cond_left": (numpyro_either, _flat),
    "cond_right": (numpyro_either, _flat),
    **{f"switch_{k}": (numpyro_switch, _switch_values) for k in range(3)},
}


@pytest.mark.filterwarnings("ignore")  # NumPyro warns of sites that it substitutes inside loops
@pytest.mark.parametrize("name", NUMPYRO)
def test_agrees_with_numpyro(name, examples, tolerance):
    example, (model, values) = examples(name), NUMPYRO[name]
    values = {address: jnp.asarray(value) for address, value in values(example.choices).items()}
    expected, _ = log_density(model, (), {}, values)
    found = example.make().log_density(example.choices)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def genjax_models() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Generative functions of GenJAX, with their arguments."""
    import genjax

    @genjax.gen
    def straight(loc, rate):
        x = genjax.normal(loc, 1.2) @ "x"
        y = genjax.gamma(2.5, jnp.exp(x) * rate) @ "y"
        k = genjax.poisson(y) @ "k"
        genjax.bernoulli(logits=x - k) @ "b"

    @genjax.gen
    def lane(loc):
        z = genjax.normal(0.0, 1.0) @ "z"
        return genjax.normal(z * loc, 0.7) @ "x"

    @genjax.gen
    def step(carry, drift):
        carry = genjax.normal(0.9 * carry + drift, 0.4) @ "x"
        return carry, genjax.normal(carry, 1.0) @ "y"

    @genjax.gen
    def cell(value, shift):
        return genjax.normal(value + shift, 1.0) @ "x"

    @genjax.gen
    def row(values):
        shift = genjax.normal(0.0, 2.0) @ "shift"
        return cell.vmap(in_axes=(0, None))(values, shift) @ "cells"

    @genjax.gen
    def chain(drift):
        return genjax.Scan(step, length=genjax.const(3))(0.5, drift) @ "chain"

    @genjax.gen
    def near(x):
        return genjax.normal(x, 0.5) @ "y"

    @genjax.gen
    def far(x):
        return genjax.normal(0.0, 3.0) @ "y"

    @genjax.gen
    def either(loc):
        x = genjax.normal(loc, 1.0) @ "x"
        return genjax.Cond(near, far)(x > 0, x) @ "either"

    @genjax.gen
    def pair(loc):
        a = genjax.normal(loc, 0.5) @ "a"
        return a + (genjax.laplace(a, 2.0) @ "b")

    @genjax.gen
    def nested(loc):
        return pair(pair(pair(loc) @ "left") @ "deep/right") @ "last"

    # Not here: `jit` (GenJAX 1.0.14 loses an address that is traced inside jax.jit), reverse scans and
    # `fori_loop` (no counterpart), conditionals with a choice in one branch only, or whose branches hold
    # different addresses (its `Cond` scores one set of choices under both).
    return {
        "straight": (straight, (0.3, 1.7)),
        "nested": (nested, (0.4,)),
        "vmap": (lane.vmap(in_axes=(0,)), (jnp.array(XS),)),
        "cond_left": (either, (0.5,)),
        "cond_right": (either, (0.5,)),
        "scan": (genjax.Scan(step, length=genjax.const(4)), (0.5, jnp.array(XS))),
        "vmap_of_scan": (chain.vmap(in_axes=(0,)), (jnp.array(GRID),)),
        "vmap_of_vmap": (row.vmap(in_axes=(0,)), (jnp.array(GRID),)),
    }


REARRANGED: dict[str, Callable[[Any], Any]] = {
    "nested": lambda c: {
        "left": c["left"], "deep/right": c["deep"]["right"], "last": {"a": c["a"], "b": c["b"]}
    },
    "cond_left": lambda c: {"x": c["x"], "either": {"y": c["y"]}},
    "cond_right": lambda c: {"x": c["x"], "either": {"y": c["y"]}},
    "vmap_of_scan": lambda c: {"chain": c},
    "vmap_of_vmap": lambda c: {"shift": c["shift"], "cells": {"x": c["x"]}},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # TensorFlow Probability's
@pytest.mark.parametrize(
    "name",
    ["straight", "nested", "vmap", "cond_left", "cond_right", "scan", "vmap_of_scan", "vmap_of_vmap"],
)
def test_agrees_with_genjax(name, examples, tolerance):
    model, arguments = genjax_models()[name]
    choices = examples(name).choices
    rearranged = REARRANGED.get(name, lambda c: c)(choices)
    rearranged = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), rearranged)
    expected, _ = model.assess(rearranged, *arguments)
    found = examples(name).make().log_density(choices)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
