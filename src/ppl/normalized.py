"""The normalized form of an unnormalized target, as an inference algorithm draws it."""

from __future__ import annotations

from typing import override

import jax

from ppl.choices import Choices
from ppl.choose import Using
from ppl.estimated import Drawn, EstimatedMeasure
from ppl.infer.algorithm import Algorithm, Retained
from ppl.measure import Measure
from ppl.source import user_line


class Normalized(EstimatedMeasure):
    """What an algorithm draws of a target; made by `normalize`."""

    def __init__(self, target: Measure, algorithm: Algorithm, layers: tuple[Using, ...] = ()) -> None:
        self.target, self.algorithm, self.layers = target, algorithm, layers

    def __repr__(self) -> str:
        return f"normalize({self.target!r}, {type(self.algorithm).__name__})"

    @override
    def draw(self) -> Drawn:
        sample = self.algorithm.sample(self.target)
        return Drawn(sample.choices, sample.log_density - sample.log_normalizer)

    @override
    def score(self, choices: Choices) -> jax.Array:
        trace, weight = self.target.propose_given(choices, ())  # what is observed is weighed always
        retained = Retained(choices, trace.log_density, weight)
        return trace.log_density - self.algorithm.log_normalizer_given(self.target, retained)

    @override
    def layered(self, layers: tuple[Using, ...]) -> Normalized:
        return Normalized(self.target, self.algorithm, layers)


jax.tree_util.register_pytree_node(
    Normalized,
    lambda m: ((m.target, m.algorithm, m.layers), None),
    lambda _, children: Normalized(*children),
)


def normalize(target: Measure, algorithm: Algorithm) -> Normalized:
    """The law of what an algorithm draws of a target: an approximation of `gamma / Z`.

    A measure like any other. Its density `q` is that of the algorithm's output, not of the posterior: for
    importance sampling with `n` particles it lies between the proposal (`n = 1`) and the posterior
    (`n` to infinity). It is estimated: of `x` that it draws it says a `w` with `E[1 / w | x] = 1 / q(x)`; of
    `x` that are given, a `w` with `E[w] = q(x)`.

    It returns the choices that it draws: those of the target that are not observed.

    Args:
        target: a conditioned program, or any measure.
        algorithm: of `ppl.infer`.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     rain = ppl.flip(0.2) @ "rain"
        ...     ppl.flip(jax.numpy.where(rain, 0.9, 0.1)) @ "wet"
        >>> posterior = ppl.normalize(model().condition({"wet": True}), ppl.infer.Importance(50))
        >>> draws = jax.vmap(posterior.simulate)(jax.random.split(jax.random.key(0), 5000))
        >>> float(draws.choices["rain"].mean().round(1))  # 0.18 / 0.26
        0.7

    Reference: Becker, Lew, Wang, Ghavami, Huot, Rinard, Mansinghka, "Probabilistic programming with
    programmable variational inference", 2024.
    """
    if not isinstance(target, Measure):
        raise TypeError(f"normalize takes a measure, got {target!r} ({user_line()})")
    if not isinstance(algorithm, Algorithm):
        raise TypeError(f"normalize takes an algorithm of ppl.infer, got {algorithm!r} ({user_line()})")
    return Normalized(target, algorithm)
