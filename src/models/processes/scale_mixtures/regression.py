"""Regression by a process under one unknown scale: programs, and four bounds of their evidence.

    s ~ InverseGamma(a, b) or Burr XII(c, d),        y | s ~ N(0, s (K + noise))

The quotient b / a is the scale of the Gaussian process to which the mixture tends as a grows.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as npd

import ppl
from models.processes.kernels import nngp
from models.processes.scale_mixtures.burr import BurrXII
from models.processes.scale_mixtures.conjugate import Scale, context
from ppl.estimators import Reinforce

Params = dict[str, Any]
PARTICLES = 8


def kernel(params: Params, x: jax.Array) -> jax.Array:
    """The NNGP of three layers and the noise, at a scale of one."""
    return nngp(x, x, jnp.exp(params["weight"])) + jnp.exp(params["noise"]) * jnp.eye(len(x))


def prior_scale(params: Params) -> Scale:
    """InverseGamma(a, b), from a and b / a."""
    a = jnp.exp(params["concentration"])
    return Scale(a, a * jnp.exp(params["scale"]))


def burr(params: Params) -> BurrXII:
    """A law of the scale that is not conjugate."""
    return BurrXII(*(jnp.exp(params[name]) for name in ("power", "tail", "scale")))


@ppl.gen
def task(law, root):
    """A task: its scale, of whatever law, and all of its observations."""
    scale = law @ "scale"
    ppl.multivariate_normal(jnp.zeros(len(root)), scale_tril=jnp.sqrt(scale) * root) @ "y"


@ppl.gen
def collapsed(params, root):
    """The same for an inverse-gamma scale, which is summed out: a multivariate t."""
    a, b = prior_scale(params)
    ppl.dist(npd.MultivariateStudentT(2 * a, jnp.zeros(len(root)), jnp.sqrt(b / a) * root)) @ "y"


@ppl.gen
def guide(phi, quadratic):
    """InverseGamma(a', b' + slope y' K^-1 y): holds the posterior, a' = a + n / 2, b' = b, slope = 1 / 2."""
    a, b, slope = (jnp.exp(phi[name]) for name in ("a", "b", "slope"))
    ppl.families.inverse_gamma(a, b + slope * quadratic) @ "scale"


def mixture(params: Params, root: jax.Array) -> Any:
    """A task whose scale is inverse gamma."""
    return task(ppl.families.inverse_gamma(*prior_scale(params)), root)


def heavy(params: Params, root: jax.Array) -> Any:
    """A task whose scale is Burr XII: no closed form."""
    return task(ppl.dist(burr(params)), root)


def _mean_over(bound: Any) -> ppl.Expectation:
    """The mean over tasks of `bound(params, root, y, quadratic)`; all tasks are observed at the same x."""

    def objective(params, data):
        ys, xs = data["y"], data["x"][0]
        seen = context(kernel(params, xs), ys)
        return jnp.mean(jax.vmap(lambda y, q: bound(params, seen.root, y, q))(ys, seen.quadratic))

    return ppl.expectation(objective)


def _gaussian(params, root, y, quadratic):
    scaled = jnp.exp(params["scale"] / 2) * root
    return ppl.multivariate_normal(jnp.zeros(len(root)), scale_tril=scaled).log_density(y)


def _elbo(params, root, y, quadratic):
    return ppl.elbo(mixture(params, root).condition({"y": y}), guide(params["guide"], quadratic))


def _summed_out(model):
    """The importance-weighted bound: the log density of a marginal, which the guide helps to estimate."""

    def bound(params, root, y, quadratic):
        infer = lambda kept: guide(params["guide"], quadratic)
        return ppl.marginal(model(params, root), ["y"], infer, particles=PARTICLES).log_density({"y": y})

    return bound


gaussian_process = _mean_over(_gaussian)
evidence = _mean_over(lambda params, root, y, _: collapsed(params, root).log_density({"y": y}))
implicit = _mean_over(_elbo)
scored = implicit.using({"scale": Reinforce()})
weighted = _mean_over(_summed_out(mixture))
weighted_burr = _mean_over(_summed_out(heavy))


def initial(points: int, **others: Any) -> Params:
    """Parameters to start from, as logarithms; the guide of a task starts near the posterior of a = 2."""
    start = {"weight": -2.0, "noise": 1.5, "scale": -2.0} | others
    phi = {"a": jnp.log(2.0 + points / 2), "b": jnp.log(2.0) + start["scale"], "slope": jnp.log(0.5)}
    return {name: jnp.array(value) for name, value in start.items()} | {"guide": phi}
