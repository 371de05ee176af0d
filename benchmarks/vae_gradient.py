"""The gradient of a variational autoencoder's ELBO: ours, hand-written JAX, GenJAX and NumPyro side by side.

Everyone computes the same single-draw estimate of

    (1/B) sum_b E_q[log p(x_b | z_b) + log p(z_b) - log q(z_b | x_b)]

and its gradient in all weights: encoder 784-200-50, decoder 50-200-784, Bernoulli pixels, float32.

    python benchmarks/vae_gradient.py [--repeats 30] [--batches 64 256 1024]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import genjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as npd
from _timing import STAGING_HEADER, interleaved, staging_rows, table
from numpyro.infer import Trace_ELBO

import ppl

PIXELS, HIDDEN, LATENT = 784, 200, 50
Params = dict[str, Any]


def parameters(seed: int = 0) -> Params:
    """Weights of both networks; the last layers start small, as one would for a stable start."""
    rng = np.random.default_rng(seed)
    layer = lambda m, n, size: (
        jnp.asarray(size * rng.normal(size=(m, n)) / m**0.5, jnp.float32),
        jnp.zeros(n),
    )
    return {
        "encoder": [layer(PIXELS, HIDDEN, 1.0), layer(HIDDEN, 2 * LATENT, 0.1)],
        "decoder": [layer(LATENT, HIDDEN, 1.0), layer(HIDDEN, PIXELS, 0.1)],
    }


def network(layers: Any, x: Any) -> Any:
    """One hidden layer; any leading axes."""
    (w1, b1), (w2, b2) = layers
    return jnp.tanh(x @ w1 + b1) @ w2 + b2


def encode(params: Params, x: Any) -> tuple[Any, Any]:
    """Location and scale of the latent."""
    out = network(params["encoder"], x.astype(jnp.float32))
    return out[..., :LATENT], jnp.exp(out[..., LATENT:])


def decode(params: Params, z: Any) -> Any:
    """Logits of the pixels."""
    return network(params["decoder"], z)


# --- ours


def objective() -> Any:
    """Of parameters and a batch."""

    @ppl.gen
    def model(params):
        z = ppl.normal(jnp.zeros(LATENT), 1.0) @ "z"
        ppl.bernoulli(logits=decode(params, z)) @ "x"

    @ppl.gen
    def guide(params, x):
        loc, scale = encode(params, x)
        ppl.normal(loc, scale) @ "z"

    @ppl.expectation
    def mean_elbo(params, batch):
        each = lambda x: ppl.elbo(model(params).condition({"x": x}), guide(params, x))
        return jnp.mean(jax.vmap(each)(batch))

    return mean_elbo


def ours() -> Callable[..., Any]:
    made = objective()
    return lambda key, params, batch: made.value_and_grad(key, params, batch)


# --- the same by hand


def by_hand() -> Callable[..., Any]:
    def elbo(params, key, batch):
        loc, scale = encode(params, batch)
        noise = jax.random.normal(key, loc.shape)
        z = loc + scale * noise
        logits = decode(params, z)
        log_likelihood = jnp.sum(batch * logits - jax.nn.softplus(logits), -1)
        log_prior_ratio = jnp.sum(0.5 * (noise**2 - z**2) + jnp.log(scale), -1)
        return jnp.mean(log_likelihood + log_prior_ratio)

    return lambda key, params, batch: jax.value_and_grad(elbo)(params, key, batch)


# --- GenJAX


def of_genjax(vmapped: str) -> Callable[..., Any]:
    """Its form of the same: an expectation of one datum, mapped over the batch by its own `modular_vmap`.

    `inside` maps inside the expectation and differentiates once; `outside` maps `grad_estimate` and averages
    the gradients of the data, which holds B copies of all weights. GenJAX returns no value with a gradient.
    """

    @genjax.gen
    def model(params):
        z = genjax.multivariate_normal_diag_reparam(jnp.zeros(LATENT), jnp.ones(LATENT)) @ "z"
        pixels(decode(params, z)) @ "x"

    @genjax.gen
    def guide(params, x):
        loc, scale = encode(params, x)
        genjax.multivariate_normal_diag_reparam(loc, scale) @ "z"

    pixels = genjax.tfp_distribution(
        lambda logits: genjax.distributions.tfd.Independent(
            genjax.distributions.tfd.Bernoulli(logits=logits), 1
        )
    )

    def one(params, x):
        trace = guide.simulate(params, x)
        log_joint, _ = model.assess({"z": trace.get_choices()["z"], "x": x}, params)
        return log_joint + trace.get_score()

    def inside(params, batch):
        mapped = lambda params: jnp.mean(genjax.modular_vmap(lambda x: one(params, x))(batch))
        return genjax.expectation(mapped).grad_estimate(params)

    def outside(params, batch):
        each = lambda x: genjax.expectation(lambda params: one(params, x)).grad_estimate(params)
        return jax.tree.map(lambda g: jnp.mean(g, 0), genjax.modular_vmap(each)(batch))

    # `grad_estimate` differentiates every argument, so the data are closed over.
    gradient = inside if vmapped == "inside" else outside
    return lambda key, params, batch: genjax.seed(gradient)(key, params, batch)


# --- NumPyro


def of_numpyro() -> Callable[..., Any]:
    """`Trace_ELBO` under `jax.value_and_grad`, the batch in a plate: `SVI` without its optimizer."""

    def model(params, batch):
        with numpyro.plate("batch", len(batch)):
            z = numpyro.sample("z", npd.Normal(jnp.zeros(LATENT), 1.0).to_event(1))
            numpyro.sample("x", npd.Bernoulli(logits=decode(params, z)).to_event(1), obs=batch)

    def guide(params, batch):
        loc, scale = encode(params, batch)
        with numpyro.plate("batch", len(batch)):
            numpyro.sample("z", npd.Normal(loc, scale).to_event(1))

    def elbo(params, key, batch):
        return -Trace_ELBO().loss(key, {}, model, guide, params, batch) / len(batch)

    return lambda key, params, batch: jax.value_and_grad(elbo)(params, key, batch)


CONTESTANTS: dict[str, Callable[[], Callable[..., Any]]] = {
    "hand-written": by_hand,
    "ppl": ours,
    "GenJAX": lambda: of_genjax("inside"),
    "GenJAX, per datum": lambda: of_genjax("outside"),
    "NumPyro": of_numpyro,
}


def agree(functions: dict[str, Callable[..., Any]], params: Params, data: Any, draws: int = 100) -> None:
    """All estimate one gradient: the means of independent draws differ by what their variance explains.

    The squared distance of two means of n draws is 2 tr(Cov) / n on average, and concentrated there.
    """
    square = lambda tree: float(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree)))
    minus = lambda a, b: jax.tree.map(jnp.subtract, a, b)
    means, variances = {}, {}
    for number, (name, function) in enumerate(functions.items()):
        keys = jax.random.split(jax.random.key(number), draws)
        found = [gradient_of(function(key, params, data)) for key in keys]
        means[name] = jax.tree.map(lambda *x: sum(x) / draws, *found)
        variances[name] = sum(square(minus(one, means[name])) for one in found) / (draws - 1)
    for name, mean in means.items():
        distance = square(minus(mean, means["hand-written"]))
        expected = (variances[name] + variances["hand-written"]) / draws
        assert distance < 2 * expected, (
            f"{name} computes another gradient: {distance:.3g}, not {expected:.3g}"
        )


def gradient_of(output: Any) -> Any:
    return output[1] if isinstance(output, tuple) else output


def data_of(batch: int) -> Any:
    """Binary pixels."""
    return jnp.asarray(np.random.default_rng(1).random((batch, PIXELS)) < 0.3, jnp.int32)


def main(repeats: int, batches: list[int]) -> None:
    params, key, rows = parameters(), jax.random.key(0), []
    functions = {name: jax.jit(make()) for name, make in CONTESTANTS.items()}
    agree(functions, params, data_of(min(batches)))
    for batch in batches:
        data = data_of(batch)
        runs = {name: lambda f=f, data=data: f(key, params, data) for name, f in functions.items()}
        median = interleaved(runs, repeats)
        base = median["hand-written"]
        rows += [(str(batch), name, f"{1e3 * m:.2f}", f"{m / base:.2f}") for name, m in median.items()]
    print(f"Gradient of the ELBO, VAE {PIXELS}-{HIDDEN}-{LATENT}: median of {repeats} on {jax.devices()[0]}")
    print(table(("batch", "written with", "ms", "ratio"), rows))
    print("\nStaging and compiling it, batch 64, median of 3")
    fresh = {
        name: lambda make=make: (make(), (key, params, data_of(64))) for name, make in CONTESTANTS.items()
    }
    print(table(STAGING_HEADER, staging_rows("VAE", fresh, 3)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 1024])
    main(**vars(parser.parse_args()))
