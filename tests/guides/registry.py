"""Every ready-made guide, as a function from a target to the guide, for the laws of test_laws.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as npd

import ppl
from ppl.guides import ASVI, Flow, FullRank, LowRank, MeanField, Transported


def small_flow(key: Any, base: Any) -> Any:
    from flowjax.flows import coupling_flow, masked_autoregressive_flow

    make = masked_autoregressive_flow if base.shape == (1,) else coupling_flow
    return make(key, base_dist=base, flow_layers=2, nn_width=12, nn_depth=1, invert=False)


class Fixed:
    """A guide without parameters."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def initial(self, key: Any, scale: float = 0.1) -> dict[str, Any]:
        return {"nothing": jnp.zeros(())}

    def __call__(self, params: Any) -> Any:
        return self.make()


def student(target: Any) -> Fixed:
    latent = ppl.unconstrained(target)
    law = npd.StudentT(5.0, jnp.linspace(-1.0, 0.5, latent.size), 0.4).to_event(1)
    return Fixed(lambda: Transported(latent, law))


PER_CHOICE = {"MeanField": MeanField, "ASVI": ASVI}
OVER_VECTOR = {
    "FullRank": FullRank,
    "LowRank": lambda target: LowRank(target, rank=1),
    "Flow": lambda target: Flow(target, small_flow),
    "Transported": student,
}
GUIDES: dict[str, Any] = PER_CHOICE | OVER_VECTOR
"""`laplace` is not among them: it gives a `Transported`, found at some cost; see test_over_vector.py."""
