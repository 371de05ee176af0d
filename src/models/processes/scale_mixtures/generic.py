"""Any law of the scale: the prediction is a mixture of normal laws, at weighted draws of the scale.

    s_i ~ r,   w_i ∝ H(s_i) N(y; 0, s_i K) / r(s_i),   p(rest | y) ~ sum_i w_i N(rest; mean, s_i V)

All that n observations say of the scale is q = y'K^-1 y, which is s times a chi-squared variable of n degrees
of freedom. How many draws of equal weight the draws are worth falls with n where r is the prior H. The
posterior of an inverse-gamma law, r = InverseGamma(a + n / 2, b + q / 2), is a proposal for every H; for the
inverse-gamma law itself all its weights are equal.

For another H these weights may have no variance: near zero they grow like exp(b / s), and q < 2 b where a
task is much smaller than those that the law was fitted to. So half of the draws are of H, and no weight is
more than twice what it is for draws of H alone: that of a likelihood, which is bounded.

Reference: Hesterberg, "Weighted average importance sampling and defensive mixture distributions", 1995.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
from jax.scipy.special import digamma, polygamma

import ppl
from models.processes.scale_mixtures import regression
from models.processes.scale_mixtures.burr import BurrXII
from models.processes.scale_mixtures.conjugate import Context, Scale, context, log_evidence_given
from models.processes.scale_mixtures.windows import times

DRAWS = 256
NUMBERS = (1, 2, 4, 6, 9, 12)


Law = npd.Distribution


@ppl.gen
def task(law, number):
    """A task of so many observations, of which only q is kept: it is gamma of shape n / 2 and mean n s."""
    scale = ppl.dist(law) @ "scale"
    ppl.gamma(number / 2, 1 / (2 * scale)) @ "q"


@ppl.gen
def drawn(law):
    ppl.dist(law) @ "scale"


def conjugate(prior: Scale, number: Any, quadratic: Any) -> Law:
    """The posterior of an inverse-gamma scale."""
    return npd.InverseGamma(prior.a + number / 2, prior.b + quadratic / 2)


def near(law: BurrXII) -> Scale:
    """The inverse-gamma law whose log s has the mean and, nearly, the variance of Burr's.

    (s / scale)^c is a quotient of gamma variables of shapes 1 and d; the trigamma function at a is about
    1 / a + 1 / (2 a^2).
    """
    variance = (polygamma(1, 1.0) + polygamma(1, law.d)) / law.c**2
    a = (1.0 + jnp.sqrt(1.0 + 2.0 * variance)) / (2.0 * variance)
    mean = jnp.log(law.scale) + (digamma(1.0) - digamma(law.d)) / law.c
    return Scale(a, jnp.exp(mean + digamma(a)))


def defensive(law: Law, proposal: Law) -> Law:
    """The even mixture of both."""
    even = npd.Categorical(probs=jnp.full(2, 0.5))
    return npd.MixtureGeneral(even, [law, proposal], support=npd.constraints.positive)


def scales(
    law: Law, number: Any, quadratic: Any, proposal: Law, key: jax.Array, draws: int = DRAWS
) -> ppl.infer.Particles:
    """Weighted draws of the scale, whose law is H, given what n observations say of it."""
    target = task(law, number).condition({"q": quadratic})
    return ppl.infer.run(target, ppl.infer.Importance(draws, drawn(proposal)), key=key)


def log_predictive(found: ppl.infer.Particles, block: Context) -> jax.Array:
    """The log density of each row of a block of what is to be predicted, in whitened coordinates."""
    each = jax.vmap(lambda scale: log_evidence_given(scale, block))(found.choices["scale"])
    return jax.nn.logsumexp(jax.nn.log_softmax(found.log_weights)[:, None] + each, axis=0)


Case = Callable[[Scale, BurrXII], tuple[Law, Callable[..., Law]]]
CASES: dict[str, Case] = {
    "inverse gamma, from the prior": lambda prior, burr: (_law(prior), lambda *_: _law(prior)),
    "inverse gamma, from its posterior": lambda prior, burr: (_law(prior), partial(conjugate, prior)),
    "Burr XII, from the prior": lambda prior, burr: (burr, lambda *_: burr),
    "Burr XII, from a near posterior": lambda prior, burr: (burr, partial(conjugate, near(burr))),
    "Burr XII, from both": lambda prior, burr: (
        burr, lambda *seen: defensive(burr, conjugate(near(burr), *seen)),
    ),
}  # fmt: skip
"""Of both laws as they were fitted: H, and what proposes for n and q."""


def _law(prior: Scale) -> Law:
    return npd.InverseGamma(*prior)


def shares(params: Any, heavy: Any, y: np.ndarray) -> dict[str, list[float]]:
    """What share of the draws the effective ones are, for each of NUMBERS: the mean over windows.

    Args:
        params: of the inverse-gamma law.
        heavy: of Burr's.
        y: windows, of which the first quarters are seen.
    """
    whitened = context(regression.kernel(params, jnp.asarray(times())), jnp.asarray(y)).whitened
    quadratics = jnp.cumsum(whitened**2, axis=1)[:, np.array(NUMBERS) - 1]
    found = {name: _shares(case, params, heavy, quadratics) for name, case in CASES.items()}
    return {name: np.asarray(each).mean(0).tolist() for name, each in found.items()}


@partial(jax.jit, static_argnames=("case",))
def _shares(case: Case, params: Any, heavy: Any, quadratics: jax.Array) -> jax.Array:
    law, proposal = case(regression.prior_scale(params), regression.burr(heavy))

    def one(key: jax.Array, number: jax.Array, quadratic: jax.Array) -> jax.Array:
        return scales(law, number, quadratic, proposal(number, quadratic), key).effective / DRAWS

    keys = jax.random.split(jax.random.key(0), quadratics.shape)
    numbers = jnp.broadcast_to(jnp.asarray(NUMBERS, quadratics.dtype), quadratics.shape)
    return jax.vmap(jax.vmap(one))(keys, numbers, quadratics)
