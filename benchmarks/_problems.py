"""Four problems for gradient estimators: model, guide, ELBO, fixed parameters, and the exact gradient.

Each is defined once for `ppl`; `_peers.py` and `_pyro.py` write the same programs for other libraries, at
the same parameters and data. The gradient is that of the ELBO in the parameters of the guide. Its truth
comes from elsewhere: enumeration, sums over a chain's marginals, a closed form, one-dimensional
quadrature.

The parameters are reached by a short training run: near the optimum the score function has little
variance, at the start nothing is typical.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _problem import At, How, Problem, ascended, layers, network
from jax.scipy.special import digamma, gammaln
from jax.tree_util import Partial
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF

import ppl

# --- an autoencoder with binary latents


def pixels_and_code(decoder: Any, x: Any, logits: Any, z: Any) -> Any:
    """`log p(x, z) - log q(z | x)` for bits `z` of any leading axes; linear in `x`, continuous in `z`."""
    pixel = network(decoder, z)
    likelihood = jnp.sum(x * pixel - jax.nn.softplus(pixel), -1)
    prior = -logits.shape[-1] * jnp.log(2.0)
    return likelihood + prior - jnp.sum(z * logits - jax.nn.softplus(logits), -1)


def vae(batch: int = 64, latents: int = 16, hidden: int = 32, steps: int = 400) -> Problem:
    """An autoencoder of binarized digits: a batch of images, a few Bernoulli latents each."""
    digits = jnp.asarray(load_digits().data > 7.5, jnp.int32)
    rng = np.random.default_rng(0)
    start = {"encoder": layers(rng, 64, hidden, latents), "decoder": layers(rng, latents, hidden, 64)}

    @ppl.gen
    def model(decoder, relaxed):
        prior = ppl.bernoulli(logits=jnp.zeros(latents))
        z = (prior if relaxed is None else prior.using(relaxed)) @ "z"
        ppl.bernoulli(logits=network(decoder, z.astype(jnp.float32))) @ "x"

    @ppl.gen
    def guide(encoder, decoder, x, how, tuned):
        logits = network(encoder, x.astype(jnp.float32))
        relaxed = Partial(pixels_and_code, decoder, x, jax.lax.stop_gradient(logits))
        ppl.bernoulli(logits=logits).using(how(At(x, tuned, relaxed))) @ "z"

    def bound(encoder, decoder, images, how, tuned, relaxed=None):
        target = lambda x: model(decoder, relaxed).condition({"x": x})
        each = lambda x: ppl.elbo(target(x), guide(encoder, decoder, x, how, tuned))
        return jnp.sum(jax.vmap(each)(images))

    training = ppl.expectation(
        lambda params, images: bound(
            params["encoder"], params["decoder"], images, lambda at: ppl.estimators.MeasureValued(), None
        )
    )
    trained = ppl.fit(
        training, start, optax.adam(0.01), key=jax.random.key(0), steps=steps, data=digits,
        batch_size=batch, progress=False,
    ).params  # fmt: skip
    images, decoder = digits[:batch], trained["decoder"]

    def objective(how: How, relaxed: Any = None) -> Any:
        return ppl.expectation(
            lambda params, tuned: bound(params["encoder"], decoder, images, how, tuned, relaxed)
        )

    def elbo(params: Any, constants: Any) -> Any:
        codes = (jnp.arange(2**latents)[:, None] >> jnp.arange(latents)) % 2.0

        def one(x: Any) -> Any:
            logits = network(params["encoder"], x)
            log_q = codes @ logits - jnp.sum(jax.nn.softplus(logits))
            return jnp.sum(jnp.exp(log_q) * pixels_and_code(constants["decoder"], x, logits, codes))

        return jnp.sum(jax.lax.map(jax.checkpoint(one), constants["images"]))

    return Problem(
        "vae",
        f"autoencoder, {batch} digits, {latents} bits each",
        {"encoder": trained["encoder"]},
        {"images": images, "decoder": decoder},
        objective,
        elbo,
    )


# --- a hidden Markov model


def hmm(length: int = 20, states: int = 4, steps: int = 30) -> Problem:
    """A hidden Markov model; the guide is a chain too, with a table of its own for each step."""
    rng = np.random.default_rng(1)
    sticky = jnp.asarray(np.log(0.7 * np.eye(states) + 0.3 / states), jnp.float32)
    means = jnp.asarray(1.5 * np.arange(states), jnp.float32)
    hidden = np.cumsum(rng.random(length) < 0.25) % states
    observed = jnp.asarray(means[hidden] + rng.normal(size=length), jnp.float32)
    start = {"logits": jnp.asarray(rng.normal(size=(length, states, states)), jnp.float32)}

    @ppl.gen
    def model():
        def step(before, _):
            z = ppl.categorical(logits=sticky[before]) @ "z"
            ppl.normal(means[z], 1.0) @ "y"
            return z, None

        jax.lax.scan(step, jnp.int32(0), None, length=length)

    @ppl.gen
    def guide(params, how, tuned):
        def step(before, at):
            table, y = at
            logits = table[before]
            z = ppl.categorical(logits=logits).using(how(At(y, tuned))) @ "z"
            return z, None

        jax.lax.scan(step, jnp.int32(0), (params["logits"], observed))

    def objective(how: How) -> Any:
        return ppl.expectation(
            lambda params, tuned: ppl.elbo(model().condition({"y": observed}), guide(params, how, tuned))
        )

    def elbo(params: Any, constants: Any) -> Any:
        log_y = jax.scipy.stats.norm.logpdf(constants["observed"][:, None], constants["means"], 1.0)

        def step(carry: Any, at: Any) -> Any:
            before, total = carry
            table, log_y = at
            log_q = jax.nn.log_softmax(table)
            joint = before[:, None] * jnp.exp(log_q)
            log_p = jax.nn.log_softmax(constants["transition"]) + log_y
            return (jnp.sum(joint, 0), total + jnp.sum(joint * (log_p - log_q))), None

        first = jnp.zeros(states, log_y.dtype).at[0].set(1.0)
        start = first, jnp.zeros((), log_y.dtype)
        return jax.lax.scan(step, start, (params["logits"], log_y))[0][1]

    constants = {"transition": sticky, "means": means, "observed": observed}
    params = ascended(lambda params: elbo(params, constants), start, steps, 0.05)
    title = f"hidden Markov model, {length} steps, {states} states"
    return Problem("hmm", title, params, constants, objective, elbo)


# --- Poisson factor analysis


def factors(batch: int = 64, count: int = 8, steps: int = 100) -> Problem:
    """Poisson factor analysis of digits: the count of a pixel, from weights that are gamma variables."""
    digits = load_digits().data
    shapes = NMF(count, init="nndsvda", random_state=0, max_iter=400).fit(digits).components_ + 0.01
    loadings = jnp.asarray(shapes / shapes.sum(1, keepdims=True), jnp.float32)
    counts = jnp.asarray(digits[:batch], jnp.int32)
    shape, rate = 1.0, 0.03  # of the prior: the weights of a digit add up to about 300
    start = {"log_concentration": jnp.full((batch, count), 1.0), "log_rate": jnp.full((batch, count), -2.0)}

    @ppl.gen
    def model():
        z = ppl.gamma(jnp.full(count, shape), rate) @ "z"
        ppl.poisson(z @ loadings) @ "x"

    @ppl.gen
    def guide(log_concentration, log_rate, x, how, tuned):
        at = At(x, tuned)
        ppl.gamma(jnp.exp(log_concentration), jnp.exp(log_rate)).using(how(at)) @ "z"

    def objective(how: How) -> Any:
        def bound(params, tuned):
            each = lambda a, b, x: ppl.elbo(model().condition({"x": x}), guide(a, b, x, how, tuned))
            return jnp.sum(jax.vmap(each)(params["log_concentration"], params["log_rate"], counts))

        return ppl.expectation(bound)

    def elbo(params: Any, constants: Any) -> Any:
        """With E log s = integral of (exp(-t) - E exp(-t s)) / t over t > 0, by trapezoids in log t."""
        loadings, counts = constants["loadings"], constants["counts"]
        a, b = jnp.exp(params["log_concentration"]), jnp.exp(params["log_rate"])
        mean, mean_log = a / b, digamma(a) - jnp.log(b)
        grid, spacing = jnp.linspace(-25.0, 12.0, 250, retstep=True)

        def integrand(u: Any) -> Any:
            logs = jnp.log1p(jnp.exp(u) * loadings / b[:, :, None])
            return jnp.exp(-jnp.exp(u)) - jnp.exp(-jnp.einsum("nk,nkj->nj", a, logs))

        log_rate = spacing * jnp.sum(jax.lax.map(jax.checkpoint(integrand), grid), 0)
        likelihood = jnp.sum(counts * log_rate - gammaln(counts + 1)) - jnp.sum(mean @ loadings)
        prior = (shape - 1) * mean_log - rate * mean + shape * jnp.log(rate) - gammaln(shape)
        entropy = a - jnp.log(b) + gammaln(a) + (1 - a) * digamma(a)
        return likelihood + jnp.sum(prior + entropy)

    constants = {"loadings": loadings, "counts": counts, "prior": jnp.array([shape, rate])}
    params = ascended(lambda params: elbo(params, constants), start, steps, 0.05)
    title = f"Poisson factors, {batch} digits, {count} weights each"
    return Problem("factors", title, params, constants, objective, elbo)


# --- a mixture


def mixture(points: int = 1000, components: int = 8, steps: int = 10) -> Problem:
    """A mixture of normals with unknown centers, which are reparameterized; each point has a category."""
    rng = np.random.default_rng(2)
    centers = rng.normal(scale=4.0, size=(components, 2))
    data = jnp.asarray(
        centers[rng.integers(components, size=points)] + rng.normal(size=(points, 2)), jnp.float32
    )
    start = {
        "logits": jnp.asarray(0.5 * rng.normal(size=(points, components)), jnp.float32),
        "loc": jnp.asarray(centers + 0.5 * rng.normal(size=centers.shape), jnp.float32),
        "log_scale": jnp.full(centers.shape, -2.0),
    }

    @ppl.gen
    def model():
        center = ppl.normal(jnp.zeros((components, 2)), 4.0) @ "center"

        def point(x):
            z = ppl.categorical(logits=jnp.zeros(components)) @ "z"
            ppl.normal(center[z], 1.0) @ "x"

        jax.vmap(point)(data)

    @ppl.gen
    def guide(params, how, tuned):
        ppl.normal(params["loc"], jnp.exp(params["log_scale"])) @ "center"

        def point(logits, x):
            ppl.categorical(logits=logits).using(how(At(x, tuned))) @ "z"

        jax.vmap(point)(params["logits"], data)

    def objective(how: How) -> Any:
        return ppl.expectation(
            lambda params, tuned: ppl.elbo(model().condition({"x": data}), guide(params, how, tuned))
        )

    def elbo(params: Any, constants: Any) -> Any:
        q, variance = jax.nn.softmax(params["logits"]), jnp.exp(2 * params["log_scale"])
        squares = jnp.sum((constants["data"][:, None] - params["loc"]) ** 2 + variance, -1)
        log_pi = jnp.log(2 * jnp.pi)
        prior = jnp.sum(-0.5 * (params["loc"] ** 2 + variance) / 16 - jnp.log(4.0) - 0.5 * log_pi)
        entropy = jnp.sum(params["log_scale"] + 0.5 * (1 + log_pi))
        each = -0.5 * squares - log_pi - jnp.log(components) - jax.nn.log_softmax(params["logits"])
        return prior + entropy + jnp.sum(q * each)

    constants = {"data": data}
    params = ascended(lambda params: elbo(params, constants), start, steps, 0.1)
    title = f"mixture, {points} points, {components} components"
    return Problem("mixture", title, params, constants, objective, elbo, lambda gradient: gradient["logits"])


PROBLEMS: dict[str, Callable[..., Problem]] = {"vae": vae, "hmm": hmm, "factors": factors, "mixture": mixture}
