"""The programs that mutants are shown: random ones, and three for what random programs do not hold."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from hypothesis import HealthCheck, Phase, given, seed, settings

import ppl
from ppl.estimators import Reinforce
from ppl.testing import BiasReport, NotIntegrable, check_unbiased
from ppl.testing.programs import Program, programs, verify

from ..corpus.silent_wrong import SILENT

KEY = jax.random.key(11)
BOUND = SILENT["several particles of a coin"]


@functools.cache
def random_programs(count: int) -> tuple[Program, ...]:
    """The first programs of a fixed seed."""
    found: list[Program] = []

    @seed(20250614)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs(illegal=0.0))
    def collect(program: Program) -> None:
        found.append(program)

    collect()
    return tuple(dict.fromkeys(found))


def vectors(t: Any) -> Any:
    """The covariance of a normal vector."""
    root = jnp.stack([jnp.stack([jnp.exp(t), 0.0]), jnp.array([0.5, 1.0])])
    x = ppl.multivariate_normal(jnp.stack([t, 0.0]), scale_tril=root) @ "x"
    return x[0] * x[1] + x[0]


def compared(t: Any) -> Any:
    """Two samples, each the baseline of the other."""
    return 3.0 * (ppl.flip(jax.nn.sigmoid(t)).using(Reinforce(baseline="loo")) @ "x") + 1.0


FIXED: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], int]] = {
    "vectors": (vectors, lambda t: 0.5 * jnp.exp(t) + t, 1),
    "compared": (compared, lambda t: 3 * jax.nn.sigmoid(t) + 1, 2),
    "bound": (BOUND.program, BOUND.truth, 1),
}


def check_fixed(name: str, **options: Any) -> BiasReport:
    """One of the programs that are not random."""
    program, truth, samples = FIXED[name]
    fresh = ppl.expectation(lambda t: program(t))  # nothing that was compiled before is found again
    common = {"key": KEY, "against": truth, "num_samples": samples, "raises": False}
    return check_unbiased(fresh, (0.2,), **common, **options)


def check_random(program: Program) -> BiasReport | None:
    """A random program, traced anew; `None` if it cannot be integrated."""
    try:
        return verify(replace(program), KEY)
    except NotIntegrable:
        return None
