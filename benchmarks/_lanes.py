"""Standard deviation of the score-function gradient, as independent lanes are added.

Two programs over N lanes x_i ~ Normal(m_i, 1), all scored, at m_i = 0.3:

    shared   the mean of x_i**2, one parameter m for all lanes
    own      the sum of x_i**2, a parameter for each lane; the gradient in the first of them

Lanes are independent. So if each score multiplies its own lane alone, the first falls as the root of N
(it is shown times that) and the second is constant. If scores multiply the whole result, both grow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import genjax
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from _timing import table
from numpyro.infer import TraceGraph_ELBO

import ppl

MEAN = 0.3
LANES = (1, 10, 100, 1000)
DRAWS = 20_000

Gradient = Callable[[Any, Any], Any]


class ScoredNormal(dist.Normal):
    """A normal that NumPyro does not reparameterize."""

    reparametrized_params: list[str] = []  # noqa: RUF012

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        return jax.lax.stop_gradient(super().sample(key, sample_shape))


def ours(share: float) -> Gradient:
    draw = lambda mean: ppl.normal(mean, 1.0).using(ppl.estimators.Reinforce()) @ "x"
    objective = ppl.expectation(lambda means: share * jnp.sum(jax.vmap(draw)(means) ** 2))
    return objective.grad


def of_genjax(share: float) -> Gradient:
    draw = lambda mean: genjax.normal_reinforce.sample(mean, 1.0)
    objective = lambda means: share * jnp.sum(genjax.modular_vmap(draw)(means) ** 2)
    return genjax.seed(lambda means: genjax.expectation(objective).grad_estimate(means))


def of_numpyro(share: float) -> Gradient:
    """The cost of a lane is a factor; the model's prior cancels the guide's density, but for its score."""

    def model(means):
        with numpyro.plate("lane", len(means)):
            x = numpyro.sample("x", ScoredNormal(jax.lax.stop_gradient(means), 1.0))
            numpyro.factor("cost", share * x**2)

    def guide(means):
        with numpyro.plate("lane", len(means)):
            numpyro.sample("x", ScoredNormal(means, 1.0))

    elbo = lambda means, key: -TraceGraph_ELBO().loss(key, {}, model, guide, means)
    return lambda key, means: jax.grad(elbo)(means, key)


LIBRARIES = {
    "ppl Reinforce()": ours,
    "GenJAX normal_reinforce": of_genjax,
    "NumPyro TraceGraph": of_numpyro,
}


def deviation(make: Callable[[float], Gradient], lanes: int, shared: bool, draws: int = DRAWS) -> float:
    """The standard deviation; of a shared parameter the gradient is the sum of those of the lanes."""
    gradient = make(1 / lanes if shared else 1.0)
    means = jnp.full(lanes, MEAN)
    entry = lambda key: (jnp.sum if shared else lambda g: g[0])(gradient(key, means))
    batch = min(max(100_000 // lanes, 1), draws)
    every = jax.jit(lambda keys: jax.lax.map(entry, keys, batch_size=batch))
    return float(jnp.std(every(jax.random.split(jax.random.key(0), draws))))


def rows(names: list[str]) -> list[tuple[str, ...]]:
    lines = []
    for shared in (True, False):
        for name in names:
            found = [deviation(LIBRARIES[name], lanes, shared) for lanes in LANES]
            scaled = [sd * lanes**0.5 if shared else sd for sd, lanes in zip(found, LANES, strict=True)]
            program = "shared, times the root of N" if shared else "own"
            lines += [("shared", name, *(f"{sd:.3g}" for sd in found))] if shared else []
            lines += [(program, name, *(f"{sd:.3g}" for sd in scaled))]
    return lines


def main(peers: bool = True) -> None:
    names = list(LIBRARIES) if peers else list(LIBRARIES)[:1]
    print(f"Standard deviation of the score-function gradient over N independent lanes, {DRAWS} draws")
    print(table(("parameter", "estimator", *(f"N = {lanes}" for lanes in LANES)), rows(names)))


if __name__ == "__main__":
    main()
