"""A guide of each datum from one network: what it is by hand, and posteriors that are known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import ppl
from ppl import guides
from ppl.guides import Amortized


@ppl.gen
def datum(weight: Any) -> None:
    z = ppl.normal(jnp.zeros(2), 1.0) @ "z"
    ppl.normal(weight @ z, 0.5) @ "y"


WEIGHT = jnp.array([1.0, -2.0])
target = lambda y: datum(WEIGHT).condition({"y": y})
linear = lambda phi, y: phi["weights"] * y + phi["bias"]


def start(size: int) -> dict[str, jax.Array]:
    return {"weights": jnp.zeros(size), "bias": jnp.zeros(size)}


def test_its_density_is_that_of_independent_normals(key: jax.Array) -> None:
    guide = Amortized(target, linear, start={"z": {"loc": jnp.ones(2), "log_scale": jnp.full(2, -1.0)}})
    assert guide.family(0.3).size == 4
    phi = {"weights": jnp.array([1.0, 2.0, 3.0, 4.0]), "bias": jnp.array([0.1, 0.2, 0.3, 0.4])}
    z = np.array([0.2, -1.3])
    numbers = np.array([1, 2, 3, 4]) * 0.3 + np.array([0.1, 0.2, 0.3, 0.4])
    wanted = stats.norm(1 + numbers[:2], np.exp(-1 + numbers[2:])).logpdf(z).sum()
    assert float(guide(phi, 0.3).log_density({"z": z})) == pytest.approx(wanted, rel=1e-5)
    assert guide(phi, 0.3).simulate(key).choices["z"].shape == (2,)


def test_posteriors_of_all_data_are_learned_by_one_network() -> None:
    """Correlated, so by a full covariance; means and covariances by linear algebra, for other data too."""
    guide = Amortized(target, linear, guides.FullRank)
    bound = lambda phi, y: ppl.sticking_the_landing(guide.target(y), guide(phi, y))
    objective = ppl.expectation(lambda phi, rows: ppl.scaled(lambda y: bound(phi, y), rows, total=100))
    rows = 2.0 * jax.random.normal(jax.random.key(0), (100,))
    phi = ppl.fit(
        objective, start(guide.family(0.0).size), optax.adam(optax.cosine_decay_schedule(0.05, 800)),
        key=jax.random.key(1), steps=800, data=rows, batch_size=50, progress=False,
    ).params  # fmt: skip
    precision = np.eye(2) + np.outer(WEIGHT, WEIGHT) / 0.25
    for y in (-1.5, 0.7):
        draws = jax.vmap(guide(phi, y).simulate)(jax.random.split(jax.random.key(2), 20_000)).choices["z"]
        mean = np.linalg.solve(precision, np.asarray(WEIGHT) * y / 0.25)
        np.testing.assert_allclose(np.mean(draws, 0), mean, atol=0.03)
        np.testing.assert_allclose(np.cov(draws.T), np.linalg.inv(precision), atol=0.03)


def test_it_begins_where_the_start_is() -> None:
    family = guides.MeanField(target(0.3))
    found = family.initial(jax.random.key(3))
    guide = Amortized(target, linear, start=found)
    z = jnp.array([0.2, -1.3])
    wanted = family(found).log_density({"z": z})
    assert float(guide(start(4), 0.3).log_density({"z": z})) == pytest.approx(float(wanted), rel=1e-6)


def test_a_datum_may_be_several_arguments() -> None:
    guide = Amortized(
        lambda y, scale: datum(scale * WEIGHT).condition({"y": y}),
        lambda phi, y, scale: phi["weights"] * y * scale + phi["bias"],
    )
    each = jax.vmap(lambda y, scale: ppl.elbo(guide.target(y, scale), guide(start(4), y, scale)))
    ys, scales = jnp.array([0.1, 2.0, -1.0]), jnp.array([1.0, 0.5, 2.0])
    objective = ppl.expectation(lambda: jnp.sum(each(ys, scales)))
    found = objective.estimate(jax.random.key(0), num_samples=20_000)
    # Standard normals: E log p(z) - log q(z) = 0, and E log p(y | z) in closed form.
    residual = ys**2 + scales**2 * jnp.sum(WEIGHT**2)
    wanted = jnp.sum(-0.5 * jnp.log(2 * jnp.pi * 0.25) - 0.5 * residual / 0.25)
    assert float(found) == pytest.approx(float(wanted), rel=0.02)


REFUSED = {
    "function for its target, got 3": lambda: Amortized(3, linear),  # type: ignore[arg-type]
    "function for its network, got None": lambda: Amortized(target, None),  # type: ignore[arg-type]
    "is a measure, got 1.0": lambda: Amortized(lambda y: y, linear)(start(4), 1.0),  # type: ignore[arg-type]
    r"shape \(3,\); MeanField.* has 4 parameters": lambda: Amortized(target, linear)(start(3), 1.0),
    "not of the parameters of MeanField": lambda: Amortized(target, linear, start=start(4))(start(4), 1.0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_refused_by_name(message: str) -> None:
    with pytest.raises((TypeError, ppl.PPLError), match=message):
        REFUSED[message]()
