"""Programs of which another library silently returned a wrong number: what is right, or the error to expect.

Each was reproduced with GenJAX 1.0.14 or NumPyro 0.22; `benchmarks/silent_wrong.py` runs the peers beside.
Left out are those for which there is nothing here yet: updates of traces, MALA, resampling, diagnostics of
chains.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import ppl
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam


class Silent(NamedTuple):
    """A program of one parameter.

    Attributes:
        program: returns a number.
        truth: its expected value, by hand.
        at: the parameter.
        peer: who is wrong, and how.
    """

    program: Callable[[Any], Any]
    truth: Callable[[Any], Any]
    at: float
    peer: str


def _branch(how: Any) -> Silent:
    def program(t: Any) -> Any:
        y = jax.lax.cond(t > 0, lambda: (ppl.flip(t).using(how) @ "x") + 1.0, lambda: t * 1.0)
        return y**2

    return Silent(program, lambda t: 4 * t + (1 - t), 0.4, "GenJAX: the rest does not see the branch")


def _scan(t: Any) -> Any:
    def step(total: Any, _: Any) -> Any:
        total = total + (ppl.normal(t, 1.0).using(Reinforce()) @ "x")
        return total, total

    return jnp.sum(jax.lax.scan(step, 0.0, None, 3)[1] ** 2)


def _fori(t: Any) -> Any:
    return jax.lax.fori_loop(0, 3, lambda _, c: c / 2 + (ppl.normal(t, 1.0).using(Reinforce()) @ "x") ** 2, t)


def _square(t: Any) -> Any:
    return (ppl.normal(t, 1.0).using(Reinforce()) @ "x") ** 2


def _vectors(t: Any) -> Any:
    def lane(s: Any) -> Any:
        loc = jnp.stack([t * s, t])
        return jnp.sum(
            (ppl.multivariate_normal(loc, covariance_matrix=2 * jnp.eye(2)).using(Reparam()) @ "x") ** 2
        )

    return jnp.sum(jax.vmap(lane)(jnp.array([1.0, 2.0])))


def _local(t: Any) -> Any:
    """A local Bernoulli latent for each of four data, of which two are looked at, and scaled."""
    data = jnp.array([0.0, 1.0, 1.0, 2.0])
    batch = ppl.categorical(jnp.full(6, 1 / 6)).using(Enumerate()) @ "batch"
    rows = jnp.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])[batch]

    def one(y: Any) -> Any:
        z = (ppl.flip(jax.nn.sigmoid(t)).using(Reinforce()) @ "z") * 1.0
        return -((y - z) ** 2)

    return 2.0 * jnp.sum(jax.vmap(one)(data[rows]))


def _local_truth(t: Any) -> Any:
    p = jax.nn.sigmoid(t)
    return sum(-(p * (y - 1.0) ** 2 + (1 - p) * y**2) for y in (0.0, 1.0, 1.0, 2.0))


def _chain(t: Any) -> Any:
    def step(z: Any, _: Any) -> Any:
        z = (ppl.flip(jax.nn.sigmoid(t + z)).using(Reinforce()) @ "z") * 1.0
        return z, z

    return jnp.sum(jax.lax.scan(step, 0.0, None, 3)[1])


def _chain_truth(t: Any) -> Any:
    total, p = 0.0, 0.0
    for _ in range(3):
        p = (1 - p) * jax.nn.sigmoid(t) + p * jax.nn.sigmoid(t + 1)
        total = total + p
    return total


@ppl.gen
def _model() -> Any:
    z = ppl.flip(0.3) @ "z"
    ppl.normal(jnp.where(z, 1.0, -1.0), 1.0) @ "y"


@ppl.gen
def _coin(t: Any) -> Any:
    ppl.flip(t).using(Reinforce()) @ "z"


def _bound(t: Any) -> Any:
    return ppl.iwelbo(2)(_model().condition({"y": 0.5}), _coin(t))


def _bound_truth(t: Any) -> Any:
    weight = lambda z: (
        (0.3 if z else 0.7) * jax.scipy.stats.norm.pdf(0.5, 1.0 if z else -1.0) / (t if z else 1 - t)
    )
    pairs = [(a, b) for a in (True, False) for b in (True, False)]
    mass = lambda z: t if z else 1 - t
    return sum(mass(a) * mass(b) * jnp.log((weight(a) + weight(b)) / 2) for a, b in pairs)


def _mixture_guide(t: Any) -> Any:
    """Draws of a mixture have a derivative in the means."""
    guide = ppl.mixture(ppl.normal(jnp.stack([t, -t]), jnp.array([1.0, 1.0])), probs=jnp.array([0.4, 0.6]))
    return (guide @ "x") ** 2


SILENT: dict[str, Silent] = {
    "a site in a branch, scored": _branch(Reinforce()),
    "a site in a branch, enumerated": _branch(Enumerate()),
    "a site in a branch, measure-valued": _branch(MeasureValued()),
    "a site in scan": Silent(_scan, lambda t: 14 * t**2 + 6, 0.3, "GenJAX: noise baked in"),
    "a site in fori_loop": Silent(_fori, lambda t: t / 8 + 1.75 * (t**2 + 1), 0.3, "GenJAX: noise baked in"),
    "a site in jit": Silent(
        lambda t: jax.jit(lambda t: _square(t))(t), lambda t: t**2 + 1, 0.7, "GenJAX: noise baked in"
    ),
    "a site in checkpoint": Silent(
        lambda t: jax.checkpoint(_square)(t), lambda t: t**2 + 1, 0.7, "GenJAX: noise baked in"
    ),
    "geometric, scored": Silent(
        lambda t: (ppl.geometric(t).using(Reinforce()) @ "x") * 1.0, lambda t: (1 - t) / t, 0.4,
        "GenJAX: -0.66 for -6.25",
    ),
    "a second derivative, scored": Silent(_square, lambda t: t**2 + 1, 0.7, "GenJAX: a constant of the run"),
    "a second derivative, measure-valued": Silent(
        lambda t: (ppl.flip(t).using(MeasureValued()) @ "x") * t**2, lambda t: t**3, 0.4, "GenJAX: -2 for -4"
    ),
    "vectors in lanes": Silent(_vectors, lambda t: 5 * t**2 + 2 * t**2 + 8, 0.4, "GenJAX: 0.80 for 2.8"),
    "local latents, subsampled": Silent(_local, _local_truth, 0.3, "NumPyro TraceGraph_ELBO: times N / n"),
    "a chain in scan": Silent(_chain, _chain_truth, 0.3, "NumPyro TraceGraph_ELBO: 1.45 for 1.151"),
    "several particles of a coin": Silent(_bound, _bound_truth, 0.4, "NumPyro RenyiELBO: the wrong sign"),
    "a mixture that moves": Silent(
        _mixture_guide, lambda t: t**2 + 1, 0.5, "NumPyro Trace_ELBO: 1.73 for 0.753"
    ),
}  # fmt: skip
