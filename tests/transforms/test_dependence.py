"""The analysis of dependence never loses one: against what changes when one instance of a choice changes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from ppl.transforms.dependence import analyze
from ppl.transforms.stage import split, stage

from . import brute, programs


def staged(function: Any) -> Any:
    with jax.enable_x64(True):
        return stage(function, split(((), {}))).jaxpr


def losses(jaxpr: Any, rng: np.random.Generator, settings: int = 3) -> list[str]:
    """Every dependence that the analysis has lost, in words."""
    with jax.enable_x64(True):
        found = analyze(jaxpr, lambda name: True)[0].outputs
    noise, worlds, base = brute.probe(jaxpr, rng, settings)
    with jax.enable_x64(True):
        values = brute.evaluate(jaxpr, noise, len(base))
    lost = []
    for number, (value, dependence) in enumerate(zip(values, found, strict=True)):
        for name, where in worlds.items():
            reached = brute.reached(value, base, where)
            claimed = np.zeros_like(reached)
            if name in dependence:
                claimed = brute.covered(dependence[name], where.shape[1:], value.shape[1:])
            if (reached & ~claimed).any():
                index = np.argwhere(reached & ~claimed)[0].tolist()
                lost.append(f"output {number} on {name} at {index}: {dependence.get(name, 'none')}")
    return lost


@pytest.mark.parametrize("block", range(10))
def test_no_dependence_is_lost(block: int) -> None:
    for seed in range(35 * block, 35 * block + 35):
        jaxpr = staged(programs.program(seed))
        lost = losses(jaxpr, np.random.default_rng(seed))
        assert not lost, f"program {seed}: {lost}\n{jaxpr}"
