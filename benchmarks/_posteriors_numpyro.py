"""The methods of NumPyro 0.22."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpyro
from _posteriors_known import Moments
from _posteriors_method import ACCEPTANCE, FLOW, Cannot, Draws, Method, Sizes, moments, optimizer
from _posteriors_problems import Posterior
from numpyro import handlers
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, autoguide

CHAINS = 4
DISCRETE = "its guides and NUTS take continuous choices; a discrete one is summed out, and then has no draws"


def _continuous(posterior: Posterior) -> None:
    with handlers.seed(rng_seed=0), handlers.trace() as trace:
        posterior.peer()
    latent = [site for site in trace.values() if site["type"] == "sample" and not site["is_observed"]]
    if any(site["fn"].is_discrete for site in latent):
        raise Cannot(DISCRETE)


def guided(make: Callable[[Any], Any], rate: float = 1.0) -> Method:
    """Trains one of the ready-made guides, and draws from it."""

    def run(posterior: Posterior, key: jax.Array, sizes: Sizes) -> Draws:
        _continuous(posterior)
        guide = make(posterior.peer)
        svi = SVI(
            posterior.peer,
            guide,
            numpyro.optim.optax_to_numpyro(optimizer(sizes, rate)),
            Trace_ELBO(sizes.batch),
        )
        first, second = jax.random.split(key)
        try:
            found = svi.run(first, sizes.steps, progress_bar=False)
        except ValueError as error:
            if "latent dim = 1" in str(error):  # some guides want two dimensions, and say so
                raise Cannot(str(error)) from error
            raise
        return Draws(guide.sample_posterior(second, found.params, sample_shape=(sizes.draws,)))

    return run


def nuts(posterior: Posterior, key: jax.Array, sizes: Sizes, draws: int | None = None) -> Draws:
    """Four chains."""
    _continuous(posterior)
    draws = draws or sizes.chain
    kernel = NUTS(posterior.peer, target_accept_prob=ACCEPTANCE)
    chains = MCMC(
        kernel, num_warmup=draws // 2, num_samples=draws, num_chains=CHAINS, chain_method="vectorized",
        progress_bar=False,
    )  # fmt: skip
    chains.run(key)
    apart = jax.tree.map(np.asarray, chains.get_samples(group_by_chain=True))
    worth = min(float(np.min(effective_sample_size(x))) for x in apart.values())
    return Draws(chains.get_samples(), effective=worth)


def reference(posterior: Posterior, key: jax.Array, sizes: Sizes) -> Moments:
    """What a long run tells, where nothing else does."""
    return moments(nuts(posterior, key, sizes, sizes.reference))


METHODS: dict[str, Method] = {
    "mean field": guided(autoguide.AutoNormal),
    "full rank": guided(autoguide.AutoMultivariateNormal),
    "low rank": guided(lambda model: autoguide.AutoLowRankMultivariateNormal(model, rank=2)),
    "Laplace": guided(autoguide.AutoLaplaceApproximation),
    "flow": guided(autoguide.AutoBNAFNormal, FLOW),
    "NUTS": nuts,
}
