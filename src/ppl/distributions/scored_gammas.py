"""Draws made of gamma draws, of which a part moves with the parameters and the rest has a score."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ppl.distributions.gamma_path import Transformation
from ppl.distributions.implicit import draw_from_gammas, draw_log_gamma
from ppl.noise import Noise


def draw_with_score(
    distribution: Any, noise: Noise, transformation: Transformation, boost: int = 0
) -> tuple[jax.Array, jax.Array]:
    """A draw z = h(eps; theta), and the log density of its noise eps under theta, eps held fixed.

    With p the density of eps and eps drawn from p(.; theta_0),

        E[f(z)] = E[f(h(eps; theta)) p(eps; theta) / p(eps; theta_0)]   for every theta,

    so that derivatives of any order agree. Each gamma draw of concentration a is one of concentration a +
    `boost` times u_i^(1 / (a + i)) for i = 0, ..., boost - 1, with uniform u_i: these have no score.

    Args:
        distribution: is made of gamma draws.
        noise: of this choice.
        transformation: h.
        boost: by how much concentrations are raised.

    Returns:
        The draw, and one score an instance, of the batch shape.
    """
    scores: list[Any] = []
    batch = len(distribution.batch_shape)

    def log_gammas(concentration: Any, shape: tuple[int, ...]) -> jax.Array:
        log_x, raised = draw_log_gamma(noise, concentration + boost, shape)
        log_x, score = transformation(log_x, raised)
        scores.append(jnp.sum(score, axis=tuple(range(batch, score.ndim))))
        for i in range(boost):
            log_x = log_x + jnp.log(noise.uniform(shape, log_x.dtype)) / (raised - boost + i)
        return log_x

    value = draw_from_gammas(distribution, log_gammas, noise)
    return value, jnp.sum(jnp.stack(scores), axis=0)
