"""One gradient of a variational autoencoder's ELBO: ours, by hand, in GenJAX and in NumPyro.

The network is that of PLDI 2024's table 1: encoder 784-200-20 whose output is a location and, by softplus, a
scale of 10 latents, decoder 10-200-784, leaky ReLU, 320,804 weights in single precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import genjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as npd
from numpyro.infer import Trace_ELBO

import ppl

PIXELS, HIDDEN, LATENT = 784, 200, 10
Params = dict[str, Any]


class Form(NamedTuple):
    """What is computed.

    Attributes:
        squashed: whether a sigmoid of the decoder's output is taken for the logits of the pixels.
        each: whether the gradient of each datum is returned, or their mean.
    """

    squashed: bool
    each: bool


CORRECTED = Form(squashed=False, each=False)
ARTIFACT = Form(squashed=True, each=True)

# A function of a key, parameters and a batch; it returns a value with the gradient, or the gradient alone.
Gradient = Callable[[Any, Params, Any], Any]


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


def data_of(batch: int) -> Any:
    """Binary pixels; a smaller batch is the beginning of a larger one."""
    return jnp.asarray(np.random.default_rng(1).random((batch, PIXELS)) < 0.3, jnp.int32)


def network(layers: Any, x: Any) -> Any:
    """One hidden layer; any leading axes."""
    (w1, b1), (w2, b2) = layers
    return jax.nn.leaky_relu(x @ w1 + b1) @ w2 + b2


def encode(params: Params, x: Any) -> tuple[Any, Any]:
    """Location and scale of the latent."""
    out = network(params["encoder"], x.astype(jnp.float32))
    return out[..., :LATENT], jax.nn.softplus(out[..., LATENT:])


def decode(params: Params, z: Any, squashed: bool = False) -> Any:
    """Logits of the pixels."""
    out = network(params["decoder"], z)
    return jax.nn.sigmoid(out) if squashed else out


# --- ours


def bound_of_one(form: Form) -> Callable[[Params, Any], Any]:
    """Inside an expectation: the bound of one datum."""

    @ppl.gen
    def model(params):
        z = ppl.normal(jnp.zeros(LATENT), 1.0) @ "z"
        ppl.bernoulli(logits=decode(params, z, form.squashed)) @ "x"

    @ppl.gen
    def guide(params, x):
        loc, scale = encode(params, x)
        ppl.normal(loc, scale) @ "z"

    return lambda params, x: ppl.elbo(model(params).condition({"x": x}), guide(params, x))


def objective() -> Any:
    """The mean over a batch, an expectation of parameters and the batch."""
    one = bound_of_one(CORRECTED)

    @ppl.expectation
    def mean_elbo(params, batch):
        return jnp.mean(jax.vmap(lambda x: one(params, x))(batch))

    return mean_elbo


def ours(form: Form = CORRECTED) -> Gradient:
    if form.each:
        one = ppl.expectation(bound_of_one(form))
        return each_datum(lambda key, params, x: one.value_and_grad(key, params, x))
    made = objective()
    return lambda key, params, batch: made.value_and_grad(key, params, batch)


def each_datum(gradient: Gradient) -> Gradient:
    """A gradient of one datum, mapped over the data with a key for each."""
    mapped = jax.vmap(gradient, (0, None, 0))
    return lambda key, params, batch: mapped(jax.random.split(key, len(batch)), params, batch)


# --- the same by hand


def by_hand(form: Form = CORRECTED) -> Gradient:
    def elbo(params, key, batch):
        loc, scale = encode(params, batch)
        noise = jax.random.normal(key, loc.shape)
        z = loc + scale * noise
        logits = decode(params, z, form.squashed)
        log_likelihood = jnp.sum(batch * logits - jax.nn.softplus(logits), -1)
        log_prior_ratio = jnp.sum(0.5 * (noise**2 - z**2) + jnp.log(scale), -1)
        return jnp.mean(log_likelihood + log_prior_ratio)

    gradient = lambda key, params, batch: jax.value_and_grad(elbo)(params, key, batch)
    return each_datum(gradient) if form.each else gradient


# --- GenJAX


def of_genjax(form: Form, vmapped: str) -> Gradient:
    """Its form of the same: an expectation of one datum, mapped over the batch by its own `modular_vmap`.

    `inside` maps inside the expectation and differentiates once; `outside` maps `grad_estimate`, and averages
    the gradients of the data if a mean is asked for. GenJAX returns no value with a gradient.
    """

    @genjax.gen
    def model(params):
        z = genjax.multivariate_normal_diag_reparam(jnp.zeros(LATENT), jnp.ones(LATENT)) @ "z"
        pixels(decode(params, z, form.squashed)) @ "x"

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
        found = genjax.modular_vmap(each)(batch)
        return found if form.each else jax.tree.map(lambda g: jnp.mean(g, 0), found)

    # `grad_estimate` differentiates every argument, so the data are closed over.
    gradient = inside if vmapped == "inside" else outside
    return lambda key, params, batch: genjax.seed(gradient)(key, params, batch)


# --- NumPyro


def of_numpyro(form: Form) -> Gradient:
    """`Trace_ELBO` under `jax.value_and_grad`, the batch in a plate: `SVI` without its optimizer."""

    def model(params, batch):
        with numpyro.plate("batch", len(batch)):
            z = numpyro.sample("z", npd.Normal(jnp.zeros(LATENT), 1.0).to_event(1))
            pixels = npd.Bernoulli(logits=decode(params, z, form.squashed))
            numpyro.sample("x", pixels.to_event(1), obs=batch)

    def guide(params, batch):
        loc, scale = encode(params, batch)
        with numpyro.plate("batch", len(batch)):
            numpyro.sample("z", npd.Normal(loc, scale).to_event(1))

    def elbo(params, key, batch):
        return -Trace_ELBO().loss(key, {}, model, guide, params, batch) / len(batch)

    gradient = lambda key, params, batch: jax.value_and_grad(elbo)(params, key, batch)
    return each_datum(lambda key, params, x: gradient(key, params, x[None])) if form.each else gradient


def contestants(form: Form, peers: bool) -> dict[str, Callable[[], Gradient]]:
    """Everybody who runs in this process; what is written by hand is the first."""
    found = {"hand-written": lambda: by_hand(form), "ppl": lambda: ours(form)}
    if peers and not form.each:
        found["GenJAX"] = lambda: of_genjax(form, "inside")
    if peers:
        found["GenJAX, per datum"] = lambda: of_genjax(form, "outside")
        found["NumPyro"] = lambda: of_numpyro(form)
    return found
