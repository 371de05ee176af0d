"""Programs of which GenJAX 1.0.14 or NumPyro 0.22 silently returns a wrong gradient, beside `ppl`.

The corpus is in `tests/corpus`, where `ppl` is checked exactly. Here everybody's gradient is drawn, and
`ppl.testing.check_unbiased` judges it as a function of a key: false alarms 1e-6.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import genjax
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from genjax.adev import (
    flip_enum,
    flip_mvd,
    flip_reinforce,
    geometric_reinforce,
    normal_reinforce,
    uniform_reinforce,
)
from numpyro.contrib.control_flow import scan
from numpyro.infer import TraceGraph_ELBO

sys.path.insert(0, str(Path(__file__).parents[1]))

import ppl
from ppl.testing import check_unbiased
from tests.corpus.silent_wrong import SILENT

KEY = jax.random.key(3)
Gradient = Callable[[Any], Any]


def in_genjax(program: Callable[[Any], Any], at: float) -> Gradient:
    """The gradient of a program in GenJAX, as a function of a key."""
    return genjax.seed(lambda: genjax.expectation(program).grad_estimate(at))


def branch(flip: Any) -> Callable[[Any], Any]:
    def program(t: Any) -> Any:
        y = jax.lax.cond(t > 0, lambda t: flip(t) + 1.0, lambda t: t * 1.0, t)
        return y**2

    return program


def scanned(t: Any) -> Any:
    def step(total: Any, _: Any) -> Any:
        total = total + normal_reinforce(t, 1.0)
        return total, total

    return jnp.sum(jax.lax.scan(step, 0.0, None, length=3)[1] ** 2)


def looped(t: Any) -> Any:
    return jax.lax.fori_loop(0, 3, lambda _, c: c / 2 + normal_reinforce(t, 1.0) ** 2, t)


GENJAX = {
    "a site in a branch, scored": branch(flip_reinforce),
    "a site in a branch, enumerated": branch(flip_enum),
    "a site in a branch, measure-valued": branch(flip_mvd),
    "a site in scan": scanned,
    "a site in fori_loop": looped,
    "a site in jit": lambda t: jax.jit(lambda t: normal_reinforce(t, 1.0) ** 2)(t),
    "a site in checkpoint": lambda t: jax.checkpoint(lambda t: normal_reinforce(t, 1.0) ** 2)(t),
    "geometric, scored": lambda t: geometric_reinforce(t) * 1.0,
    "a support that moves": lambda t: uniform_reinforce(0.0, t) ** 2,
}


def in_numpyro(model: Any, guide: Any, at: float) -> Gradient:
    """The gradient of NumPyro's ELBO, as a function of a key."""
    loss = TraceGraph_ELBO().loss
    return lambda key: jax.grad(lambda t: -loss(key, {"t": t}, model, guide))(at)


def local(t: Any) -> tuple[Any, Any]:
    data = jnp.array([0.0, 1.0, 1.0, 2.0])

    def guide() -> None:
        p = jax.nn.sigmoid(numpyro.param("t", t))
        with numpyro.plate("data", 4, subsample_size=2):
            numpyro.sample("z", dist.Bernoulli(p))

    def model() -> None:
        p = jax.lax.stop_gradient(jax.nn.sigmoid(numpyro.param("t", t)))
        with numpyro.plate("data", 4, subsample_size=2) as index:
            z = numpyro.sample("z", dist.Bernoulli(p))
            numpyro.factor("reward", -((data[index] - z) ** 2))

    return model, guide


def chained(t: Any) -> tuple[Any, Any]:
    def guide() -> None:
        logit = numpyro.param("t", t)

        def step(z: Any, _: Any) -> Any:
            z = numpyro.sample("z", dist.Bernoulli(logits=logit + z)) * 1.0
            return z, z

        scan(step, 0.0, None, 3)

    def model() -> None:
        logit = jax.lax.stop_gradient(numpyro.param("t", t))

        def step(z: Any, _: Any) -> Any:
            z = numpyro.sample("z", dist.Bernoulli(logits=logit + z)) * 1.0
            numpyro.factor("reward", z)
            return z, z

        scan(step, 0.0, None, 3)

    return model, guide


NUMPYRO = {"local latents, subsampled": local, "a chain in scan": chained}


def verdict(gradient: Gradient | None, truth: float) -> str:
    """What becomes of a gradient, in words."""
    if gradient is None:
        return ""
    try:
        report = check_unbiased(
            gradient, key=KEY, against=truth, raises=False, max_draws=2**15, resolution=0.05
        )
    except Exception as error:
        return f"refused: {type(error).__name__}"
    found = report.rows[0]
    if report.verdict == "biased":
        return f"**{found.estimate:.3g}**"
    return f"{found.estimate:.3g}" + (" (?)" if report.verdict == "unresolved" else "")


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    print("| program | truth | ppl | GenJAX | NumPyro |\n| --- | --- | --- | --- | --- |")
    for name in dict.fromkeys([*GENJAX, *NUMPYRO]):
        if name in SILENT:
            case = SILENT[name]
            at, objective = case.at, ppl.expectation(case.program)
            truth = float(jax.grad(case.truth)(at))
        else:
            scored = ppl.estimators.Reinforce()
            at, truth = 0.7, 2 * 0.7 / 3
            objective = ppl.expectation(lambda t, s=scored: (ppl.uniform(0.0, t).using(s) @ "x") ** 2)
        ours = verdict(lambda key, o=objective, at=at: o.grad(key, at), truth)
        genjaxs = verdict(in_genjax(GENJAX[name], at) if name in GENJAX else None, truth)
        numpyros = verdict(in_numpyro(*NUMPYRO[name](at), at) if name in NUMPYRO else None, truth)
        print(f"| {name} | {truth:.3g} | {ours} | {genjaxs} | {numpyros} |", flush=True)
    print(
        "\nBold: not the truth, by a test with a false-alarm rate of 1e-6. (?): not decided in 32,768 draws."
    )


if __name__ == "__main__":
    main()
