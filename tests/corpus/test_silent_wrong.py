"""What other libraries return silently wrong is right here, exactly, or refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import Reinforce
from ppl.testing import check_unbiased

from .silent_wrong import SILENT, _coin, _model

KEY = jax.random.key(21)


@pytest.mark.parametrize("name", SILENT)
def test_value_and_derivatives(name: str) -> None:
    case = SILENT[name]
    order = 1 if name == "a mixture that moves" else 2  # implicit draws have one derivative
    report = check_unbiased(
        ppl.expectation(case.program), (case.at,), key=KEY, against=case.truth, order=order
    )
    assert (report.method == "exact") == (name != "vectors in lanes")  # four normals: 923,521 nodes


def test_every_key_gives_another_draw_under_jit() -> None:
    """GenJAX: the same number for every key."""
    objective = ppl.expectation(SILENT["a site in jit"].program)
    found = jax.jit(jax.vmap(lambda key: objective.grad(key, 0.7)))(jax.random.split(KEY, 100))
    assert len(np.unique(np.asarray(found))) > 90


def test_a_support_that_moves_is_refused_or_right() -> None:
    """GenJAX: -0.233 for 0.467."""
    scored = ppl.expectation(lambda t: (ppl.uniform(0.0, t).using(Reinforce()) @ "x") ** 2)
    with pytest.raises(ppl.UnsupportedProgram, match="support"):
        scored.grad(KEY, 0.7)
    check_unbiased(
        ppl.expectation(lambda t: (ppl.uniform(0.0, t) @ "x") ** 2),
        (0.7,),
        key=KEY,
        against=lambda t: t**2 / 3,
    )


def test_the_density_of_an_array_is_a_sum() -> None:
    """GenJAX: -6.33 for -4.25."""

    @ppl.gen
    def three() -> Any:
        ppl.normal(jnp.array([0.0, 1.0, 2.0]), 1.0) @ "x"

    found = three().log_density({"x": jnp.array([0.5, 0.5, 0.5])})
    wanted = sum(jax.scipy.stats.norm.logpdf(0.5, m, 1.0) for m in (0.0, 1.0, 2.0))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_guide_that_draws_what_is_observed_or_more_is_refused() -> None:
    """GenJAX: overwrites the data."""

    @ppl.gen
    def wrong(t: Any) -> Any:
        ppl.flip(t) @ "z"
        ppl.normal(0.0, 1.0) @ "y"

    target = _model().condition({"y": 0.5})
    with pytest.raises(ppl.PPLError, match="'y'"):
        ppl.expectation(lambda t: ppl.elbo(target, wrong(t))).grad(KEY, 0.4)


@pytest.mark.parametrize("observed", [{"yy": 0.5}, {"y": 0.5, "w": 1.0}, {"y": jnp.zeros(3)}])
def test_a_wrong_observation_is_refused(observed: Any) -> None:
    """GenJAX: accepted."""
    with pytest.raises(ppl.PPLError, match=r"'(yy|w|y)'"):
        ppl.expectation(lambda t: ppl.elbo(_model().condition(observed), _coin(t))).grad(KEY, 0.4)


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        (ppl.exponential(1.0), -1.0), (ppl.categorical(jnp.array([0.2, 0.3, 0.5])), 5),
        (ppl.gamma(2.0, 1.0), -1.0), (ppl.beta(2.0, 2.0), 1.5), (ppl.poisson(2.0), -1),
        (ppl.uniform(0.0, 1.0), 2.0), (ppl.geometric(0.5), -2),
    ],
)  # fmt: skip
def test_outside_the_support_the_log_density_is_minus_infinity(measure: Any, value: Any) -> None:
    """GenJAX: +1.0, 0.0, NaN."""
    assert float(measure.log_density(value)) == -np.inf


def test_data_of_another_shape_do_not_broadcast() -> None:
    """NumPyro: -21.55 for -4.23."""

    @ppl.gen
    def rows() -> Any:
        ppl.normal(jnp.zeros(3), 1.0) @ "y"

    with pytest.raises(ppl.errors.ChoiceShapeError, match="'y'"):
        rows().log_density({"y": jnp.zeros((3, 1))})
