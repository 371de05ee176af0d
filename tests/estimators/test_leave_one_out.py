"""Leave-one-out at one choice: more draws than two, and how variance falls with them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import LeaveOneOut, Reinforce

from .discrete import BITS, WAYS, bits_gradient, check, five_bits, moments, six_ways, ways_gradient


@pytest.mark.parametrize("family", ["flip", "categorical"])
def test_four_draws(family: str) -> None:
    check(family, LeaveOneOut(4))


def test_variance_of_five_coins() -> None:
    variances = [moments(five_bits(Reinforce()), BITS).variance]
    for samples in (2, 3):
        found = moments(five_bits(LeaveOneOut(samples)), BITS)
        np.testing.assert_allclose(found.mean, bits_gradient(), atol=1e-12)
        variances.append(found.variance)
    assert np.all(np.diff(variances) < 0)


def test_variance_of_six_ways() -> None:
    variances = [moments(six_ways(Reinforce()), WAYS).variance]
    for samples in (2, 3, 4):
        found = moments(six_ways(LeaveOneOut(samples)), WAYS)
        np.testing.assert_allclose(found.mean, ways_gradient(), atol=1e-12)
        variances.append(found.variance)
    assert np.all(np.diff(variances) < 0)


def test_a_constant_has_no_variance() -> None:
    """What a baseline would have to learn is there from the start."""
    program = lambda a: 1e4 + 0 * (ppl.flip(jax.nn.sigmoid(a)).using(LeaveOneOut(2)) @ "b")
    keys = jax.random.split(jax.random.key(0), 32)
    assert not np.any(jax.vmap(lambda k: ppl.expectation(program).grad(k, 0.3))(keys))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"two draws or more, got samples=1.*Reinforce"):
        LeaveOneOut(1)
    high = ppl.expectation(lambda end: (ppl.uniform(0.0, end).using(LeaveOneOut(2)) @ "x") ** 2)
    with pytest.raises(ppl.errors.UnsupportedProgram, match="'high' of the choice 'x'"):
        high.grad(jax.random.key(0), jnp.asarray(2.0))
