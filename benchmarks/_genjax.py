"""The four problems in GenJAX 1.0.14, for `estimators.py`: its REINFORCE, and what else its ADEV has for
them.

Two forms, where lanes are independent. `one expectation` maps the data inside a single expectation by
GenJAX's `modular_vmap`: a score multiplies the whole result. `of each datum` maps `grad_estimate`: an
expectation of its own for each datum, so that a score multiplies the result of that datum; global choices
are then drawn for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import genjax
import jax
import jax.numpy as jnp
from _problem import Problem, network
from genjax import modular_vmap
from genjax.adev import categorical_enum_parallel, flip_enum, flip_mvd, reinforce
from genjax.core import distribution

tfd = genjax.distributions.tfd
Gradient = Callable[[Any, Any], Any]


def scored(family: Any, law: Any) -> Any:
    """A family of GenJAX under its score-function estimator, as its own `flip_reinforce` is made."""
    keyful = lambda key, *args, sample_shape=(): law(*args).sample(seed=key, sample_shape=sample_shape)
    return distribution(reinforce(family.sample, family.logpdf, keyful), family.logpdf)


categorical_reinforce = scored(genjax.categorical, lambda logits: tfd.Categorical(logits=logits))
gamma_reinforce = scored(genjax.gamma, tfd.Gamma)
FLIPS = {
    "REINFORCE": genjax.flip_reinforce,
    "enumeration": distribution(flip_enum, genjax.flip.logpdf),
    "measure-valued": distribution(flip_mvd, genjax.flip.logpdf),
}


def gradient(objective: Callable[[Any], Any]) -> Gradient:
    """Its gradient as a function of a key."""
    return genjax.seed(lambda params: genjax.expectation(objective).grad_estimate(params))


def summed(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.sum(x, 0), tree)


def bound(model: Any, guide: Any, observed: Any) -> Callable[[Any, Any], Any]:
    """One draw of an ELBO; a trace's score is the negative log density."""

    def elbo(model_args: Any, guide_args: Any) -> Any:
        trace = guide.simulate(*guide_args)
        log_joint, _ = model.assess({**trace.get_choices(), **observed}, *model_args)
        return log_joint + trace.get_score()

    return elbo


def vae(problem: Problem) -> dict[str, Gradient]:
    images, decoder = problem.constants["images"], problem.constants["decoder"]
    latents = problem.params["encoder"][1][1].shape[0]
    pixels = genjax.tfp_distribution(lambda logits: tfd.Independent(tfd.Bernoulli(logits=logits), 1))

    @genjax.gen
    def model():
        z = genjax.flip.vmap(in_axes=(0,))(jnp.full(latents, 0.5)) @ "z"
        pixels(network(decoder, z.astype(jnp.float32))) @ "x"

    def of(flip: Any) -> Callable[[Any, Any], Any]:
        @genjax.gen
        def guide(encoder, x):
            probs = jax.nn.sigmoid(network(encoder, x.astype(jnp.float32)))
            flip.vmap(in_axes=(0,))(probs) @ "z"

        return lambda params, x: bound(model, guide, {"x": x})((), (params["encoder"], x))

    def each(flip: Any) -> Gradient:
        one = of(flip)
        estimate = lambda params, x: genjax.expectation(lambda params: one(params, x)).grad_estimate(params)
        return genjax.seed(lambda params: summed(modular_vmap(lambda x: estimate(params, x))(images)))

    whole = of(FLIPS["REINFORCE"])
    together = lambda params: jnp.sum(modular_vmap(lambda x: whole(params, x))(images))
    forms = {"REINFORCE, one expectation": gradient(together)}
    return forms | {f"{name}, of each datum": each(flip) for name, flip in FLIPS.items()}


def hmm(problem: Problem) -> dict[str, Gradient]:
    transition, means, observed = (problem.constants[name] for name in ("transition", "means", "observed"))
    length = len(observed)
    log_p, log_normal = genjax.categorical.logpdf, genjax.normal.logpdf

    @genjax.gen
    def model():
        z = jnp.int32(0)
        for t in range(length):
            z = genjax.categorical(transition[z]) @ f"z{t}"
            genjax.normal(means[z], 1.0) @ f"y{t}"

    @genjax.gen
    def guide(params):
        z = jnp.int32(0)
        for t in range(length):
            z = categorical_reinforce(params["logits"][t][z]) @ f"z{t}"

    unrolled = bound(model, guide, {f"y{t}": observed[t] for t in range(length)})

    def in_scan(params: Any) -> Any:
        def step(carry: Any, at: Any) -> Any:
            before, total = carry
            table, y = at
            z = categorical_reinforce.sample(table[before]).astype(jnp.int32)
            ratio = log_p(z, transition[before]) - log_p(z, table[before])
            return (z, total + ratio + log_normal(y, means[z], 1.0)), None

        return jax.lax.scan(step, (jnp.int32(0), 0.0), (params["logits"], observed))[0][1]

    return {
        "REINFORCE in scan": gradient(in_scan),
        "REINFORCE, unrolled": gradient(lambda params: unrolled((), (params,))),
    }


def factors(problem: Problem) -> dict[str, Gradient]:
    loadings = problem.constants["loadings"]
    counts = problem.constants["counts"].astype(jnp.float32)
    shape, rate = problem.constants["prior"]

    @genjax.gen
    def model():
        z = genjax.gamma.vmap(in_axes=(0, None))(jnp.full(len(loadings), shape), rate) @ "z"
        genjax.poisson.vmap(in_axes=(0,))(z @ loadings) @ "x"

    @genjax.gen
    def guide(a, b):
        gamma_reinforce.vmap(in_axes=(0, 0))(jnp.exp(a), jnp.exp(b)) @ "z"

    one = lambda a, b, x: bound(model, guide, {"x": x})((), (a, b))
    names = ("log_concentration", "log_rate")
    together = lambda params: jnp.sum(modular_vmap(one)(*(params[name] for name in names), counts))

    def each(params: Any) -> Any:
        estimate = lambda a, b, x: genjax.expectation(lambda a, b: one(a, b, x)).grad_estimate(a, b)
        found = modular_vmap(estimate)(*(params[name] for name in names), counts)
        return dict(zip(names, found, strict=True))

    return {"REINFORCE, one expectation": gradient(together), "REINFORCE, of each datum": genjax.seed(each)}


def mixture(problem: Problem) -> dict[str, Gradient]:
    data = problem.constants["data"]
    points, components = problem.params["logits"].shape
    normal = genjax.multivariate_normal_diag_reparam
    observation = genjax.tfp_distribution(lambda loc: tfd.MultivariateNormalDiag(loc, jnp.ones(2)))

    @genjax.gen
    def model(center):
        z = genjax.categorical(jnp.zeros(components)) @ "z"
        observation(center.reshape(components, 2)[z]) @ "x"

    def centers(params: Any) -> tuple[Any, Any]:
        """The global choice, and its part of the ELBO."""
        loc, scale = params["loc"].reshape(-1), jnp.exp(params["log_scale"]).reshape(-1)
        center = normal.sample(loc, scale)
        prior = normal.logpdf(center, jnp.zeros(2 * components), jnp.full(2 * components, 4.0))
        return center, prior - normal.logpdf(center, loc, scale)

    def of(family: Any) -> Callable[[Any, Any, Any], Any]:
        @genjax.gen
        def guide(logits):
            family(logits) @ "z"

        return lambda center, logits, x: bound(model, guide, {"x": x})((center,), (logits,))

    def together(params: Any) -> Any:
        center, rest = centers(params)
        one = lambda logits, x: of(categorical_reinforce)(center, logits, x)
        return rest + jnp.sum(modular_vmap(one)(params["logits"], data))

    def each(family: Any) -> Gradient:
        def one(shared: Any, logits: Any, x: Any) -> Any:
            center, rest = centers(shared)
            return rest / points + of(family)(center, logits, x)

        def whole(params: Any) -> Any:
            shared = {name: params[name] for name in ("loc", "log_scale")}
            estimate = lambda logits, x: genjax.expectation(lambda *moving: one(*moving, x)).grad_estimate(
                shared, logits
            )
            found, logits = modular_vmap(estimate)(params["logits"], data)
            return summed(found) | {"logits": logits}

        return genjax.seed(whole)

    enumerated = distribution(categorical_enum_parallel, genjax.categorical.logpdf)
    return {
        "REINFORCE, one expectation": gradient(together),
        "REINFORCE, of each datum": each(categorical_reinforce),
        "enumeration, of each datum": each(enumerated),
    }


PROBLEMS = {"vae": vae, "hmm": hmm, "factors": factors, "mixture": mixture}
