"""Running an algorithm from a key."""

from __future__ import annotations

import jax

from ppl.compiled import compiled
from ppl.infer.algorithm import Algorithm, Particles
from ppl.infer.keyed import keyed
from ppl.measure import Measure
from ppl.noise import check_key
from ppl.source import user_line


def run(target: Measure, algorithm: Algorithm, *, key: jax.Array) -> Particles:
    """Weighted particles of a target, by an algorithm; with an estimate of the normalizing constant.

    Args:
        target: a conditioned program, or any measure.
        algorithm: of this module.
        key: the only source of randomness.

    Returns:
        `Particles`: their choices along a leading axis, their weights, and how many they are worth.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> target = model().condition({"y": 1.0})
        >>> found = ppl.infer.run(target, ppl.infer.Importance(20_000), key=jax.random.key(0))
        >>> float(found.mean(lambda choices: choices["x"]).round(1)), float(found.log_normalizer.round(1))
        (0.5, -1.5)
        >>> bool(found.effective > 10_000)
        True
    """
    if not isinstance(target, Measure):
        raise TypeError(f"run takes a measure, got {target!r} ({user_line()})")
    if not isinstance(algorithm, Algorithm):
        raise TypeError(f"run takes an algorithm of ppl.infer, got {algorithm!r} ({user_line()})")
    return compiled(_run, target, algorithm, check_key(key))


def _run(target: Measure, algorithm: Algorithm, key: jax.Array) -> Particles:
    return keyed(lambda: algorithm.run(target), key)
