"""Measures whose own parameters are held fixed: in their density alone, or in their draws too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, override

import jax
import numpy as np
from jax.core import Tracer, eval_jaxpr
from jax.lax import stop_gradient

from ppl.address import Address
from ppl.choices import Choices, merge
from ppl.compiled import compiled
from ppl.distributions.ends import moving_support
from ppl.errors import UnsupportedProgram
from ppl.given import prepared
from ppl.measure import Distribution, Measure
from ppl.program import Conditioned, Program
from ppl.refusal import held_constant, unmoved
from ppl.source import user_line
from ppl.trace import Trace
from ppl.transforms import jax_internals as internals
from ppl.transforms.interpret import walk
from ppl.transforms.occurrences import Occurrence
from ppl.transforms.position import start
from ppl.transforms.run import Run
from ppl.transforms.stage import Staged
from ppl.transforms.witness import total, witness
from ppl.transported import Transported
from ppl.unconstrained import Unconstrained, split


def detached(measure: Measure) -> Detached:
    """The same measure, drawn in the same way, whose density holds the measure's own parameters fixed.

    With parameters `theta`, the log density at choices `x` is `log q(x; stop_gradient(theta))`: it has the
    same value, it still depends on the choices, and so on whatever moved these, but not on the parameters
    themselves. Parameters are the arguments of the program and every array that its function closes over.
    `propose` draws with the live parameters, so that derivatives through the draw and scores are what they
    were; only the log density of its trace is detached.

    What is dropped from a first derivative is `E[d/dtheta log q(x; theta)]` at fixed `x`, which is zero where
    the draws of `q` enter with equal weights (`ppl.sticking_the_landing`), and is not under weights that
    depend on them (`ppl.iwelbo`; there it is `ppl.dreg`). An objective with a detached density is
    differentiated as it is written: the parameters of the density count as constants.

    Raises:
        UnsupportedProgram: when a derivative is taken along which a parameter moves an end of the support
            (`ppl.uniform(0.0, end)`): at fixed choices the density jumps there. Also where the measure is
            made a choice of another program, whose density would not be detached.

    Example:
        >>> import jax, ppl
        >>> score = lambda mean: ppl.detached(ppl.normal(mean, 1.0)).log_density(2 * mean)
        >>> float(jax.grad(score)(1.0)), float(jax.grad(lambda x: ppl.normal(x, 1.0).log_density(2 * x))(1.0))
        (-2.0, -1.0)

    Reference: Roeder, Wu, Duvenaud, "Sticking the landing: simple, lower-variance gradient estimators for
    variational inference", 2017.
    """
    if not isinstance(measure, Measure):
        raise TypeError(
            f"detached takes a measure, such as a generative function applied to its arguments, got "
            f"{measure!r} ({user_line()})"
        )
    return measure if isinstance(measure, Detached) else Detached(measure)


class Detached(Measure):
    """A measure whose density holds its own parameters fixed; made by `detached`."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure

    def __repr__(self) -> str:
        return f"detached({self.measure!r})"

    @override
    def __matmul__(self, address: str | tuple[str, ...]) -> Any:
        raise UnsupportedProgram(
            f"{self!r} @ {address!r} ({user_line()}) would make it part of another program, whose density "
            "would not hold its parameters fixed. Make the measure itself part of it, and detach the whole; "
            "or draw by `propose()`."
        )

    @override
    def propose(self) -> Trace:
        trace = self.measure.propose()
        return replace(trace, log_density=self.log_density(trace.choices))

    @override
    def propose_given(
        self, observed: Any, weighed: Iterable[str | Address] | None = None
    ) -> tuple[Trace, jax.Array]:
        raise UnsupportedProgram(
            f"{self!r} holds parameters fixed in its density, so it gives no weights: an algorithm that "
            "draws by them needs the measure itself."
        )

    @override
    def log_density(self, choices: Any, *, key: jax.Array | None = None) -> jax.Array:
        return _log_density(self.measure, choices)

    @override
    def simulate(self, key: jax.Array) -> Trace:
        return self.measure.simulate(key)

    @override
    def generate(self, key: jax.Array, observed: Any) -> tuple[Trace, jax.Array]:
        return self.measure.generate(key, observed)

    @override
    def condition(self, observed: Mapping[Any, Any]) -> Detached:
        return Detached(self.measure.condition(observed))

    @override
    def using(self, estimators: Any) -> Detached:
        return Detached(self.measure.using(estimators))


jax.tree_util.register_pytree_node(
    Detached, lambda d: ((d.measure,), None), lambda _, children: Detached(*children)
)


def held(measure: Measure) -> Measure:
    """The measure with its own parameters held fixed, in its density and in its draws.

    Raises:
        UnsupportedProgram: the measure is of a class of its own, whose parameters are not known.
    """
    if isinstance(measure, Distribution):
        fixed = jax.tree.map(stop_gradient, measure.numpyro)
        return Distribution(measure.family, fixed, measure.estimator, measure.source)
    if isinstance(measure, Program):
        return Held(measure.function, measure.args, measure.kwargs, measure.layers)
    if isinstance(measure, Conditioned):
        return Conditioned(held(measure.program), measure.observed)
    if isinstance(measure, Detached):
        return held(measure.measure)
    if isinstance(measure, Transported):
        return _held_transported(measure)
    raise UnsupportedProgram(f"the parameters of {measure!r}, a {type(measure).__name__}, are not known.")


def holding[T](function: Callable[[], T]) -> T:
    """What a function returns inside a program, with whatever it closes over held fixed.

    Raises:
        UnsupportedProgram: it closes over an array in a way that cannot be held fixed.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)()
    _check_closed(closed.jaxpr)
    leaves = eval_jaxpr(closed.jaxpr, held_constant(closed.consts))
    return jax.tree.unflatten(jax.tree.structure(shape), leaves)


class Held(Program):
    """A program whose arguments, and whatever its function closes over, are held fixed."""

    @override
    def stage(self) -> Staged:
        return _fixed(super().stage())

    @override
    def using(self, estimators: Any) -> Held:
        return Held(self.function, self.args, self.kwargs, super().using(estimators).layers)


jax.tree_util.register_pytree_node(
    Held,
    lambda p: ((p.args, p.kwargs, p.layers), p.function),
    lambda function, children: Held(function, *children),
)


def _held_transported(measure: Transported) -> Transported:
    if not measure.is_exact:
        raise UnsupportedProgram(
            f"{measure!r} makes {', '.join(map(repr, measure.latent.conditional))} in some runs only, so its "
            "density is estimated together with its draw: it cannot be detached from it, nor held fixed. Use "
            "`ppl.elbo` or `ppl.iwelbo`, or a guide with a distribution for each choice "
            "(`ppl.guides.MeanField`)."
        )
    latent = Unconstrained(held(measure.latent.target), measure.latent.hint)
    law, transform = jax.tree.map(_stopped, (measure.law, measure.transform))
    return Transported(latent, law, transform, measure.layers, measure.name)


def _stopped(x: Any) -> Any:
    return stop_gradient(x) if isinstance(x, jax.Array | np.ndarray | float) else x


def _fixed(staged: Staged) -> Staged:
    items = [items[0] for items in staged.choices.values() if items[0].is_joint]
    if inexact := [item.site.where for item in items if not item.site.exact]:
        raise UnsupportedProgram(
            f"the choice {inexact[0]} has a density that is estimated together with its draw, or a support "
            "whose ends may move: it cannot be detached from it, nor held fixed."
        )
    _check_closed(staged.jaxpr)
    consts = [stop_gradient(x) for x in staged.jaxpr.consts]
    return staged._replace(
        jaxpr=staged.jaxpr.replace(consts=consts), arrays=[stop_gradient(x) for x in staged.arrays]
    )


def _check_closed(jaxpr: Any) -> None:
    """JAX makes inputs of all that a loop, branch or call closes over; here nothing else will do."""
    for equation in jaxpr.eqns:
        for inner in internals.nested(equation):
            if any(isinstance(x, Tracer) for x in getattr(inner, "consts", ())):
                raise UnsupportedProgram(
                    f"`{equation.primitive.name}` closes over an array in a way that cannot be held fixed. "
                    "Pass the array to the generative function as an argument."
                )
            _check_closed(inner)


# --- the density, and the ends of its support -----------------------------------------------------


def _log_density(measure: Measure, choices: Any) -> jax.Array:
    if isinstance(measure, Conditioned):
        return _log_density(measure.program, merge(measure.observed, choices))
    if isinstance(measure, Program):
        return compiled(_score, measure, Choices(choices))
    if isinstance(measure, Transported):
        return with_fixed_support(measure, choices, held(measure).log_density(choices))
    score = held(measure).log_density(choices)
    assert isinstance(measure, Distribution), "the only other class whose parameters are known"
    ends = _ends(measure.numpyro)
    return unmoved(score, total(ends), _why([f"{measure.family} ({measure.source})"])) if ends else score


def _score(program: Program, choices: Choices) -> jax.Array:
    staged = program.stage()
    fixed = _fixed(staged)
    given = start(feed=prepared(staged, choices, complete=True))
    score = walk(fixed.jaxpr, fixed.arrays, Run(record=False), given).totals["log_density"]
    items = [item for occurrences in staged.choices.values() for item in occurrences]
    return _unmoved_ends(staged, items, choices, score)


def with_fixed_support(guide: Measure, choices: Any, number: jax.Array) -> jax.Array:
    """The number; a derivative along which a parameter moves an end of a joint guide's support is refused.

    Of other guides every choice is looked at where it is made.
    """
    if not isinstance(guide, Transported):
        return number
    program, observed = split(guide.latent.target)
    items = [slot.item for slot in guide.latent.slots.values()]
    return _unmoved_ends(program.stage(), items, merge(observed, choices), number)


def _unmoved_ends(
    staged: Staged, items: list[Occurrence], choices: Mapping[Any, Any], number: jax.Array
) -> jax.Array:
    items = [item for item in items if not item.is_joint and _ends(item.distribution)]
    if not items:
        return number
    addresses = {item.site.address for item in items}
    # At fixed choices: an end that moves only because an earlier choice does is no end of the whole.
    feed = prepared(staged, jax.tree.map(stop_gradient, choices), complete=True)

    def pick(site: Any, distribution: Any) -> Any:
        return _ends(distribution) if site.address in addresses else ()

    return unmoved(number, witness(staged, feed, pick), _why([item.site.where for item in items]))


def _ends(distribution: Any) -> list[Any]:
    return [getattr(distribution, name) for name in moving_support(distribution)]


def _why(choices: list[str]) -> str:
    return (
        f"a parameter that moves an end of the support of {' or '.join(choices)} is held fixed in a detached "
        "density, which jumps there at fixed choices: the derivative would be biased. Use the density "
        "itself, as `ppl.elbo` does, or draw from a fixed support and scale the draw."
    )
