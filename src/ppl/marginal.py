"""The marginal of a measure over some of its choices, the others summed out by an inference algorithm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, override

import jax

from ppl.choices import Choices
from ppl.choose import Using
from ppl.errors import UnsupportedProgram
from ppl.estimated import Drawn, EstimatedMeasure
from ppl.given import selected
from ppl.infer.algorithm import Algorithm, Retained
from ppl.infer.importance import Importance
from ppl.measure import Measure
from ppl.program import Conditioned
from ppl.source import user_line


class Marginal(EstimatedMeasure):
    """A measure over some choices of another; made by `marginal`."""

    def __init__(
        self, measure: Measure, keep: tuple[str | tuple[str, ...], ...], algorithm: Algorithm,
        layers: tuple[Using, ...] = (),
    ) -> None:  # fmt: skip
        self.measure, self.keep, self.algorithm, self.layers = measure, keep, algorithm, layers

    def __repr__(self) -> str:
        return f"marginal({self.measure!r}, {list(self.keep)!r})"

    @override
    def draw(self) -> Drawn:
        if self.algorithm.needs_weight:
            trace, weight = self.measure.propose_given({}, self.keep)
        else:
            trace, weight = self.measure.propose(), None
        kept = selected(trace.choices, self.keep, self.measure, "marginal keeps")
        retained = Retained(trace.choices.without(*self.keep), trace.log_density, weight)
        return Drawn(kept, self.algorithm.log_normalizer_given(self.measure.condition(kept), retained))

    @override
    def score(self, choices: Choices) -> jax.Array:
        return self.algorithm.log_normalizer(self.measure.condition(choices))

    @override
    def layered(self, layers: tuple[Using, ...]) -> Marginal:
        return Marginal(self.measure, self.keep, self.algorithm, layers)


jax.tree_util.register_pytree_node(
    Marginal,
    lambda m: ((m.measure, m.algorithm, m.layers), m.keep),
    lambda keep, children: Marginal(children[0], keep, children[1], children[2]),
)


def marginal(
    measure: Measure, keep: str | Iterable[str | tuple[str, ...]], inference: Any = None, particles: int = 1
) -> Marginal:
    """The marginal of a measure over the choices that are kept: `p(x) = sum over u of p(x, u)`.

    A measure like any other: it may be a guide or a part of a model, be mapped, scanned, conditioned, or
    marginalized again. Its density is estimated, by inferring what was summed out. Of `x` that it draws it
    says a `w` with `E[1 / w | x] = 1 / p(x)`; of `x` that are given, a `w` with `E[w] = p(x)`. So it stays on
    the safe side where an objective takes the logarithm: the bound that `ppl.elbo` computes for a guide that
    is a marginal, or a target that has one, is a lower bound still, and the tighter, the better the
    inference.

    It returns the choices that it keeps.

    Args:
        measure: a program, or another estimated measure.
        keep: the addresses that are kept, or what they begin with.
        inference: how what is not kept is inferred from what is: an algorithm of `ppl.infer`; a measure over
            it; or a function that makes one of the choices that are kept, `lambda kept: reverse(kept["x"])`.
            By default it is drawn as the measure itself draws it; of an estimated measure, whose choices are
            made together, it has to be given.
        particles: how many draws, where `inference` is no algorithm.

    Raises:
        UnknownAddress: the measure has no choice at an address that is kept.
        UnsupportedProgram: the measure is conditioned: normalize it first. Or it is estimated, some of its
            choices are kept and others not, and `inference` does not say how these are inferred.

    Example:
        >>> import jax, jax.numpy as jnp, ppl
        >>> @ppl.gen
        ... def either():
        ...     heads = ppl.flip(0.3) @ "heads"
        ...     ppl.normal(jnp.where(heads, 2.0, -2.0), 1.0) @ "x"
        >>> mixture = ppl.marginal(either(), ["x"], particles=10_000)
        >>> density = jnp.exp(mixture.log_density({"x": 2.0}, key=jax.random.key(0)))
        >>> float(density.round(2))  # 0.3 * 0.3989
        0.12

    Reference: Becker, Lew, Wang, Ghavami, Huot, Rinard, Mansinghka, "Probabilistic programming with
    programmable variational inference", 2024; Ranganath, Tran, Blei, "Hierarchical variational models", 2016;
    Sobolev, Vetrov, "Importance weighted hierarchical variational inference", 2019.
    """
    if isinstance(measure, Conditioned):
        raise UnsupportedProgram(
            f"{measure!r} is not normalized, so it has no marginal: make it a measure by `ppl.normalize` "
            f"first ({user_line()})."
        )
    if not isinstance(measure, Measure):
        raise TypeError(f"marginal takes a measure, got {measure!r} ({user_line()})")
    addresses = (keep,) if isinstance(keep, str) else tuple(keep)
    if not addresses:
        raise ValueError(f"marginal keeps at least one address ({user_line()})")
    algorithm = inference if isinstance(inference, Algorithm) else Importance(particles, inference)
    return Marginal(measure, addresses, algorithm)
