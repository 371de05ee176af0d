"""The four problems in NumPyro 0.22, under its `TraceGraph_ELBO`, for `estimators.py`.

It scores the choices that it cannot reparameterize, and multiplies each score by the costs downstream of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from _problem import Problem, network
from numpyro.contrib.control_flow import scan
from numpyro.infer import TraceGraph_ELBO

Gradient = Callable[[Any, Any], Any]


def gradient(model: Callable[[Any], Any], guide: Callable[[Any], Any]) -> Gradient:
    """Of the ELBO: what `SVI.update` computes, less the optimizer."""
    elbo = lambda params, key: -TraceGraph_ELBO().loss(key, {}, model, guide, params)
    return lambda key, params: jax.grad(elbo)(params, key)


def vae(problem: Problem) -> dict[str, Gradient]:
    images, decoder = problem.constants["images"], problem.constants["decoder"]
    size = (len(images), problem.params["encoder"][1][1].shape[0])

    def model(params):
        with numpyro.plate("image", size[0], dim=-2):
            with numpyro.plate("bit", size[1], dim=-1):
                z = numpyro.sample("z", dist.Bernoulli(logits=jnp.zeros(size)))
            pixel = network(decoder, z.astype(jnp.float32))[:, None]
            numpyro.sample("x", dist.Bernoulli(logits=pixel).to_event(1), obs=images[:, None])

    def guide(params):
        logits = network(params["encoder"], images.astype(jnp.float32))
        with numpyro.plate("image", size[0], dim=-2), numpyro.plate("bit", size[1], dim=-1):
            numpyro.sample("z", dist.Bernoulli(logits=logits))

    return {"TraceGraph": gradient(model, guide)}


def hmm(problem: Problem) -> dict[str, Gradient]:
    transition, means, observed = (problem.constants[name] for name in ("transition", "means", "observed"))

    def looped(loop: Callable[..., Any]) -> Gradient:
        def model(params):
            def step(before, at):
                t, y = at
                z = numpyro.sample(f"z{t}", dist.Categorical(logits=transition[before]))
                numpyro.sample(f"y{t}", dist.Normal(means[z], 1.0), obs=y)
                return z, None

            loop(step, jnp.int32(0), observed)

        def guide(params):
            def step(before, at):
                t, table = at
                z = numpyro.sample(f"z{t}", dist.Categorical(logits=table[before]))
                return z, None

            loop(step, jnp.int32(0), params["logits"])

        return gradient(model, guide)

    def in_scan(step: Any, start: Any, xs: Any) -> None:
        scan(lambda carry, x: step(carry, ("", x)), start, xs)

    def unrolled(step: Any, carry: Any, xs: Any) -> None:
        for t, x in enumerate(xs):
            carry, _ = step(carry, (t, x))

    return {"TraceGraph in scan": looped(in_scan), "TraceGraph, unrolled": looped(unrolled)}


def factors(problem: Problem) -> dict[str, Gradient]:
    loadings, counts = problem.constants["loadings"], problem.constants["counts"]
    shape, rate = problem.constants["prior"]
    size = (len(counts), len(loadings))

    def model(params):
        with numpyro.plate("image", size[0], dim=-2):
            with numpyro.plate("factor", size[1], dim=-1):
                z = numpyro.sample("z", dist.Gamma(jnp.full(size, shape), rate))
            numpyro.sample("x", dist.Poisson((z @ loadings)[:, None]).to_event(1), obs=counts[:, None])

    def guide(params):
        law = dist.Gamma(jnp.exp(params["log_concentration"]), jnp.exp(params["log_rate"]))
        with numpyro.plate("image", size[0], dim=-2), numpyro.plate("factor", size[1], dim=-1):
            numpyro.sample("z", law)

    return {"TraceGraph, pathwise": gradient(model, guide)}


def mixture(problem: Problem) -> dict[str, Gradient]:
    data = problem.constants["data"]
    points, components = problem.params["logits"].shape

    def model(params):
        with numpyro.plate("component", components):
            center = numpyro.sample("center", dist.Normal(jnp.zeros((components, 2)), 4.0).to_event(1))
        with numpyro.plate("point", points):
            z = numpyro.sample("z", dist.Categorical(logits=jnp.zeros((points, components))))
            numpyro.sample("x", dist.Normal(center[z], 1.0).to_event(1), obs=data)

    def guide(params):
        with numpyro.plate("component", components):
            law = dist.Normal(params["loc"], jnp.exp(params["log_scale"]))
            numpyro.sample("center", law.to_event(1))
        with numpyro.plate("point", points):
            numpyro.sample("z", dist.Categorical(logits=params["logits"]))

    return {"TraceGraph": gradient(model, guide)}


PROBLEMS = {"vae": vae, "hmm": hmm, "factors": factors, "mixture": mixture}
