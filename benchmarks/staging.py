"""From a Python function to machine code: how long the derived gradient takes, against the same by hand.

Four programs, each differentiated once; every cache of JAX is emptied before each measurement:

- the ELBO of a variational autoencoder (that of `vae_gradient.py`);
- the ELBO of the cone;
- thirty conditionals in a row, each with a choice in one branch;
- ten flips in a row, each depending on those before: the exact sum over 1,024 combinations.

GenJAX derives the rest of a program anew in each branch, so its time doubles with each conditional; it
runs in a process of its own, which is stopped after a while.

    python benchmarks/staging.py [--repeats 3] [--genjax-conds 4 6 8] [--timeout 60]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import _vae_contestants
import jax
import jax.numpy as jnp
import numpy as np
from _timing import STAGING_HEADER, Contestant, staged, staging_rows, table
from jax.scipy.stats import norm

import ppl

KEY = jax.random.key(0)

# --- the cone


def cone() -> dict[str, Contestant]:
    phi = {name: jnp.float32(0.5) for name in ("mx", "my", "sx", "sy")}

    def ours() -> Any:
        @ppl.gen
        def model():
            x = ppl.normal(0.0, 10.0) @ "x"
            y = ppl.normal(0.0, 10.0) @ "y"
            r = x**2 + y**2
            ppl.normal(r, 0.1 + r / 100.0) @ "z"

        @ppl.gen
        def guide(phi):
            ppl.normal(phi["mx"], jnp.exp(phi["sx"])) @ "x"
            ppl.normal(phi["my"], jnp.exp(phi["sy"])) @ "y"

        @ppl.expectation
        def objective(phi):
            return ppl.elbo(model().condition({"z": 5.0}), guide(phi))

        return objective.value_and_grad, (KEY, phi)

    def by_hand() -> Any:
        def elbo(phi, key):
            key_x, key_y = jax.random.split(key)
            x = phi["mx"] + jnp.exp(phi["sx"]) * jax.random.normal(key_x)
            y = phi["my"] + jnp.exp(phi["sy"]) * jax.random.normal(key_y)
            r = x**2 + y**2
            log_p = norm.logpdf(x, 0, 10) + norm.logpdf(y, 0, 10) + norm.logpdf(5.0, r, 0.1 + r / 100)
            log_q = norm.logpdf(x, phi["mx"], jnp.exp(phi["sx"])) + norm.logpdf(
                y, phi["my"], jnp.exp(phi["sy"])
            )
            return log_p - log_q

        return lambda key, phi: jax.value_and_grad(elbo)(phi, key), (KEY, phi)

    return {"hand-written": by_hand, "ppl": ours}


# --- conditionals


def conditionals(count: int) -> dict[str, Contestant]:
    arguments = (KEY, jnp.float32(0.5), jnp.arange(count) % 2 == 0)

    def ours() -> Any:
        @ppl.expectation
        def objective(theta, flags):
            x = theta
            for i in range(count):
                step = lambda x, i=i: ppl.normal(x, 1.0) @ f"x{i}"
                x = jax.lax.cond(flags[i], step, lambda x: 0.9 * x, x)
            return x**2

        return objective.value_and_grad, arguments

    def by_hand() -> Any:
        def value(theta, key, flags):
            x = theta
            for i, k in enumerate(jax.random.split(key, count)):
                x = jax.lax.cond(flags[i], lambda x, k=k: x + jax.random.normal(k), lambda x: 0.9 * x, x)
            return x**2

        return lambda key, theta, flags: jax.value_and_grad(value)(theta, key, flags), arguments

    return {"hand-written": by_hand, "ppl": ours}


def genjax_conditionals(count: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The same in GenJAX, which returns the gradient only."""
    import genjax

    def gradient(theta, flags):
        def value(theta):
            x = theta
            for i in range(count):
                x = jax.lax.cond(flags[i], lambda x: genjax.normal_reparam(x, 1.0), lambda x: 0.9 * x, x)
            return x**2

        return genjax.expectation(value).grad_estimate(theta)

    return genjax.seed(gradient), (KEY, jnp.float32(0.5), jnp.arange(count) % 2 == 0)


# --- enumerated flips


def flips(count: int) -> dict[str, Contestant]:
    theta = jnp.float32(0.3)

    def ours() -> Any:
        @ppl.expectation
        def objective(theta):
            total = 0.0
            for i in range(count):
                total = total + (ppl.flip(jax.nn.sigmoid(theta - 0.1 * total)) @ f"b{i}").astype(float)
            return total**2

        return objective.value_and_grad, (KEY, theta)

    def by_hand() -> Any:
        bits = jnp.asarray(np.indices((2,) * count).reshape(count, -1).T, jnp.float32)

        def one(theta, bits):
            total, probability = 0.0, 1.0
            for i in range(count):
                p = jax.nn.sigmoid(theta - 0.1 * total)
                probability = probability * jnp.where(bits[i] > 0, p, 1 - p)
                total = total + bits[i]
            return probability * total**2

        value = lambda theta: jnp.sum(jax.vmap(one, (None, 0))(theta, bits))
        return lambda key, theta: jax.value_and_grad(value)(theta), (KEY, theta)

    return {"hand-written": by_hand, "ppl": ours}


def vae() -> dict[str, Contestant]:
    arguments = (KEY, _vae_contestants.parameters(), _vae_contestants.data_of(64))
    made = {"hand-written": _vae_contestants.by_hand, "ppl": _vae_contestants.ours}
    return {name: lambda make=make: (make(), arguments) for name, make in made.items()}


def of_genjax(count: int, timeout: float) -> tuple[str, ...]:
    """A row for GenJAX, from a process that is stopped after `timeout` seconds."""
    program = f"{count} conds"
    command = [sys.executable, __file__, "--genjax-one", str(count)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return (program, "GenJAX", f"> {timeout:.0f}", "", "", "")
    trace, compile_, equations = answer.stdout.split()
    return (program, "GenJAX", trace, compile_, "", equations)


def main(repeats: int, genjax_conds: list[int], timeout: float) -> None:
    programs = {"VAE": vae(), "cone": cone(), "30 conds": conditionals(30), "10 flips": flips(10)}
    rows = [row for name, contestants in programs.items() for row in staging_rows(name, contestants, repeats)]
    rows += [of_genjax(count, timeout) for count in genjax_conds]
    print(f"Tracing and compiling a gradient with empty caches, median of {repeats} (GenJAX: one)")
    print(table(STAGING_HEADER, rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--genjax-conds", type=int, nargs="*", default=[4, 6, 8])
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds after which GenJAX is stopped")
    parser.add_argument("--genjax-one", type=int, help=argparse.SUPPRESS)
    options = vars(parser.parse_args())
    if one := options.pop("genjax_one"):
        function, arguments = genjax_conditionals(one)
        found = staged(function, *arguments)
        print(f"{found.trace:.2f} {found.compile:.2f} {found.equations}")
    else:
        main(**options)
