"""How the contestants of table 1 are run: compiled, or in Pyro's own process; and whether they agree."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from _pyro_process import Ask, answering
from _vae_contestants import Form, Gradient, Params

FALSE_ALARMS = 1e-4
"""Of each comparison of two means."""


class Contestant(NamedTuple):
    """Somebody's gradient at one batch.

    Attributes:
        seconds: how long one more call takes.
        gradient: of a seed, as a vector; of every datum's own, the mean.
    """

    seconds: Callable[[], float]
    gradient: Callable[[int], np.ndarray]


def compiled(gradient: Gradient, form: Form, params: Params, data: Any) -> Contestant:
    """A contestant that JAX compiles; timed calls have one key, and return everything."""
    key = jax.random.key(0)
    function = jax.jit(gradient).lower(key, params, data).compile()

    def seconds() -> float:
        began = time.perf_counter()
        jax.block_until_ready(function(key, params, data))
        return time.perf_counter() - began

    def vector(seed: int) -> np.ndarray:
        found = function(jax.random.key(seed), params, data)
        leaves = jax.tree.leaves(found[1] if isinstance(found, tuple) else found)
        return np.concatenate([np.ravel(leaf.mean(0) if form.each else leaf) for leaf in leaves])

    return Contestant(seconds, vector)


# --- Pyro, in a process and an environment of its own


@contextmanager
def pyro(
    params: Params, images: Any, python: Path | None
) -> Iterator[dict[str, Callable[[int], Contestant]]]:
    """Pyro's contestants, by the size of the batch; none where there is no Pyro.

    Images of a smaller batch are the first of all.
    """
    if python is None or not python.exists():
        yield {}
        return
    with answering(python, "_vae_pyro.py", params=params, images=images) as (version, ask):
        threads = {f"Pyro {version}": os.cpu_count() or 1, f"Pyro {version}, one thread": 1}
        yield {name: lambda batch, n=n: asking(ask, batch, n) for name, n in threads.items()}


def asking(ask: Ask, batch: int, threads: int) -> Contestant:
    def answer(seed: int, gradient: bool) -> dict[str, Any]:
        return ask({"batch": batch, "threads": threads, "seed": seed, "gradient": gradient})

    vector = lambda seed: np.frombuffer(base64.b64decode(answer(seed, True)["gradient"]), np.float32)
    return Contestant(lambda: answer(0, False)["seconds"], vector)


# --- everybody estimates one gradient


def agree(contestants: dict[str, Contestant], draws: int = 100) -> dict[str, float]:
    """How far each mean of draws is from the first contestant's, in lengths of that mean; all must agree.

    Everybody's single draws have one law, so that of all draws together any half is as good as another: if
    next to no random halves have means as far apart as these, it is another gradient.
    """
    found: dict[str, float] = {}
    first: np.ndarray | None = None
    for number, (name, contestant) in enumerate(contestants.items()):
        own = np.stack([contestant.gradient(1 + number * draws + draw) for draw in range(draws)])
        if first is None:
            first = own
            continue
        distance, chance = apart(first, own)
        if chance < FALSE_ALARMS:
            raise SystemExit(
                f"{name} computes another gradient: {distance:.3g} apart, a chance of {chance:.1g}"
            )
        found[name] = distance / float(np.linalg.norm(first.mean(0)))
    return found


def apart(one: np.ndarray, other: np.ndarray, shuffles: int = 20_000) -> tuple[float, float]:
    """The distance of two means, and how often means of random halves of all draws are as far apart."""
    draws = len(one)
    together = np.concatenate([one, other])
    together = together - together.mean(0)
    gram = (together @ together.T).astype(np.float64)
    signs = np.repeat([1.0, -1.0], draws)
    shuffled = np.random.default_rng(0).permuted(np.tile(signs, (shuffles, 1)), axis=1)
    squares = np.einsum("si,ij,sj->s", shuffled, gram, shuffled, optimize=True) / draws**2
    square = signs @ gram @ signs / draws**2
    return float(square) ** 0.5, float(1 + np.sum(squares >= square)) / (1 + shuffles)
