"""The cone posterior: one model, two guides, three objectives, and how tight each of them is.

    x, y ~ Normal(0, 10)      z | x, y ~ Normal(s, 0.1 + s / 100) with s = x² + y²      z = 5 is observed

The posterior is a thin ring of radius sqrt(5). The example compares, on the same posterior,

- the ELBO and the importance-weighted bound with a guide of two independent normals, and
- a hierarchical bound, written here as a program of its own: its guide turns an angle t into a point of
  the ring, and a reverse program r(t | x, y) guesses the angle back. The better the reverse program, the
  tighter the bound: with a uniform one it is the worst of all, with a von Mises one it is all but exact.

Every bound is printed beside its own optimum, which `cone_exact.py` finds by quadrature.

After Becker, Lew, Wang, Ghavami, Huot, Rinard, Mansinghka, "Probabilistic Programming with Programmable
Variational Inference", 2024 (PLDI), figure 2 and table 4, from where the published values are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cone_exact
import jax
import jax.numpy as jnp
import numpy as np
import optax
from cone_plot import picture

import ppl

RADIUS = jnp.sqrt(5.0)
OUTPUT = Path(__file__).parent / "output"


@ppl.gen
def cone():
    x = ppl.normal(0.0, 10.0) @ "x"
    y = ppl.normal(0.0, 10.0) @ "y"
    s = x**2 + y**2
    ppl.normal(s, 0.1 + s / 100.0) @ "z"


posterior = cone().condition({"z": 5.0})


@ppl.gen
def blob(phi):
    ppl.normal(phi["mx"], jnp.exp(phi["lx"])) @ "x"
    ppl.normal(phi["my"], jnp.exp(phi["ly"])) @ "y"


@ppl.gen
def ring(phi):
    t = ppl.uniform(-jnp.pi, jnp.pi) @ "t"
    ppl.normal(RADIUS * jnp.cos(t), jnp.exp(phi["log_sd"])) @ "x"
    ppl.normal(RADIUS * jnp.sin(t), jnp.exp(phi["log_sd"])) @ "y"


@ppl.gen
def any_angle(phi, x, y):
    ppl.uniform(-jnp.pi, jnp.pi) @ "t"


@ppl.gen
def angle_of_point(phi, x, y):
    # The angle given the point has this density exactly, where the guide is the ring.
    concentration = RADIUS * jnp.hypot(x, y) / jnp.exp(2.0 * phi["log_sd"])
    ppl.von_mises(jnp.arctan2(y, x), concentration) @ "t"


@ppl.expectation
def elbo(phi):
    return ppl.elbo(posterior, blob(phi))


@ppl.expectation
def iwelbo5(phi):
    return ppl.iwelbo(5)(posterior, blob(phi))


def hierarchical(reverse: ppl.GenerativeFunction) -> ppl.Expectation:
    """E_q[log p(x, y, z) + log r(t | x, y) - log q(t, x, y)] <= log p(z): an objective of the user's own.

    Ranganath, Tran, Blei, "Hierarchical variational models", 2016.
    """

    # arctan2 jumps by 2 pi, but the density of an angle does not notice: this vouches for it.
    @ppl.continuous
    def log_reverse(phi, t, x, y):
        return reverse(phi, x, y).log_density({"t": t})

    @ppl.expectation
    def objective(phi):
        q = ring(phi).propose()
        t, x, y = q.choices["t"], q.choices["x"], q.choices["y"]
        return posterior.log_density({"x": x, "y": y}) + log_reverse(phi, t, x, y) - q.log_density

    return objective


class Case(NamedTuple):
    """An objective with its guide, where training starts, and what is known about it."""

    name: str
    objective: ppl.Expectation
    guide: ppl.GenerativeFunction
    start: dict[str, float]
    optimum: Callable[[], float]
    published: str = "-"


BLOB = {"mx": 3.0, "my": 0.0, "lx": 1.0, "ly": 1.0}
RING = {"log_sd": -1.0}
CASES = (
    Case("ELBO, blob", elbo, blob, BLOB, cone_exact.best_elbo, "-8.08"),
    Case("IWELBO(5), blob", iwelbo5, blob, BLOB, cone_exact.best_iwelbo5, "-7.79"),
    Case(
        "hierarchical, uniform r", hierarchical(any_angle), ring, RING, cone_exact.best_uniform_ring, "-9.75"
    ),
    Case(
        "hierarchical, von Mises r", hierarchical(angle_of_point), ring, RING, cone_exact.best_von_mises_ring
    ),
)


class Fitted(NamedTuple):
    """A trained guide with its objective: the mean of independent draws, and its standard error."""

    case: Case
    params: Any
    history: np.ndarray
    optimum: float
    mean: float
    error: float
    seconds: float


def fit(case: Case, key: jax.Array, steps: int, draws: int) -> Fitted:
    """Train from the start by Adam, then estimate the objective anew with `draws` draws."""
    began = time.perf_counter()
    train_key, value_key = jax.random.split(key)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps), b2=0.99)
    result = ppl.fit(
        case.objective, case.start, optimizer, key=train_key, steps=steps, num_samples=64, progress=False
    )
    values = jax.vmap(lambda k: case.objective.estimate(k, result.params))(jax.random.split(value_key, draws))
    return Fitted(
        case, result.params, result.values, case.optimum(), float(values.mean()),
        float(values.std() / draws**0.5), time.perf_counter() - began,
    )  # fmt: skip


def draws_of_guide(fitted: Fitted, key: jax.Array, count: int) -> dict[str, jax.Array]:
    """Points that the trained guide draws."""
    traces = jax.vmap(fitted.case.guide(fitted.params).simulate)(jax.random.split(key, count))
    return {"x": traces.choices["x"], "y": traces.choices["y"]}


def main(steps: int = 1500, draws: int = 20_000, output: Path = OUTPUT) -> list[Fitted]:
    evidence = cone_exact.log_evidence()
    print(f"The cone posterior: log p(z = 5) = {evidence:.6f}, by quadrature.")
    header = ("estimate", 20), ("its optimum", 13), ("below log p", 13), ("PLDI 2024", 11), ("seconds", 9)
    print(f"{'objective, guide':28}" + "".join(name.rjust(width) for name, width in header))
    fits = []
    for case, key in zip(CASES, jax.random.split(jax.random.key(0), len(CASES)), strict=True):
        fits.append(fit(case, key, steps, draws))
        f = fits[-1]
        estimate = f"{f.mean:.4f} ± {f.error:.4f}"
        print(
            f"{case.name:28}{estimate:>20}{f.optimum:>13.4f}{evidence - f.optimum:>13.4f}"
            f"{case.published:>11}{f.seconds:>9.1f}",
            flush=True,
        )
    output.mkdir(parents=True, exist_ok=True)
    points = [draws_of_guide(f, jax.random.key(1), 3000) for f in fits]
    print(f"Picture: {picture(fits, points, evidence, output / 'cone.png')}")
    return fits


if __name__ == "__main__":
    main()
