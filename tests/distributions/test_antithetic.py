"""Antithetic pairs by enumeration: margins, how often the two differ, and the flow of a derivative."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppl.distributions.antithetic import partner, potential

LAWS = {
    "coin": [0.7, 0.3],
    "fair": [0.5, 0.5],
    "rare": [1e-9, 1 - 1e-9],
    "light": [0.1, 0.25, 0.45, 0.2],
    "heavy": [0.1, 0.75, 0.05, 0.1],
    "half": [0.5, 0.2, 0.3],
    "two_halves": [0.5, 0.0, 0.5],
    "near_half": [0.5 - 1e-9, 0.2, 0.3 + 1e-9],
    "uniform": [0.2] * 5,
    "with_zeros": [0.3, 0.0, 0.3, 0.4, 0.0],
}


def _pair(p: np.ndarray) -> np.ndarray:
    """The joint law, row by row from the law of the second given the first."""
    places = jnp.eye(len(p), dtype=bool)
    return np.stack(
        [q * np.asarray(partner(jnp.asarray(p), place)) for q, place in zip(p, places, strict=True)]
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LAWS)
def test_pair(name: str) -> None:
    p = np.array(LAWS[name])
    joint = _pair(p)
    np.testing.assert_allclose(joint, joint.T, atol=1e-15)
    np.testing.assert_allclose(joint.sum(axis=0), p, atol=1e-15)
    np.testing.assert_allclose(joint.sum(axis=1), p, atol=1e-15)
    # P(x = y) >= P(x = y = top) >= 2 p(top) - 1 for any pair of these margins.
    np.testing.assert_allclose(np.trace(joint), max(0, 2 * p.max() - 1), atol=1e-15)


@pytest.mark.parametrize("name", LAWS)
def test_pair_in_single_precision(name: str) -> None:
    """Where the largest probability rounds to a half nothing is lost but the rounding."""
    p = np.array(LAWS[name], np.float32)
    joint = _pair(p)
    assert joint.dtype == np.float32
    np.testing.assert_allclose(joint.sum(axis=0), p, atol=3e-7)
    np.testing.assert_allclose(joint.sum(axis=1), p, atol=3e-7)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LAWS)
def test_flow(name: str) -> None:
    """The weights carry any derivative, with the least energy that solving the network's equations gives."""
    p = np.array(LAWS[name])
    held = p > 0
    change = np.where(held, np.random.default_rng(0).normal(size=p.shape) * p, 0)
    change[np.argmax(p)] -= change.sum()
    joint, h = _pair(p), np.asarray(potential(jnp.asarray(p), jnp.asarray(change)))
    weight = h[None, :] - h[:, None]
    np.testing.assert_allclose(2 * np.sum(joint * weight, axis=0), change, atol=1e-14)
    off = joint - np.diag(np.diag(joint))
    laplacian = np.diag(off.sum(axis=1)) - off
    solved = np.linalg.lstsq(laplacian[np.ix_(held, held)], change[held] / 2, rcond=1e-14)[0]
    least = np.sum(solved * change[held] / 2) * 2
    np.testing.assert_allclose(np.sum(joint * weight**2), least, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_two_values_are_disarm() -> None:
    """sigmoid(|a|) da / 2 of a logit `a`, the weight of Dong, Mnih and Tucker (2020)."""
    for a in (-3.0, -0.4, 0.0, 1.7):
        p = jax.nn.sigmoid(jnp.array([-a, a]))
        h = potential(p, jnp.array([-1.0, 1.0]) * p[0] * p[1])
        np.testing.assert_allclose(h[1] - h[0], jax.nn.sigmoid(abs(a)) / 2, rtol=1e-12)


def test_one_value_is_its_own_partner() -> None:
    assert partner(jnp.ones(1), jnp.array([True])).tolist() == [1.0]
    assert potential(jnp.ones(1), jnp.zeros(1)).tolist() == [0.0]


def test_batches_are_independent_columns() -> None:
    p = jnp.array([[0.1, 0.7], [0.5, 0.2], [0.4, 0.1]])
    place = jnp.array([[True, False], [False, True], [False, False]])
    both = partner(p, place)
    for column in range(2):
        np.testing.assert_allclose(both[:, column], partner(p[:, column], place[:, column]), rtol=1e-6)
