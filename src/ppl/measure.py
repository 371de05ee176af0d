"""Measures: what can be drawn, scored and transformed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, override

import jax
import jax.numpy as jnp
import numpyro.distributions as npd

from ppl.address import Address, canonical
from ppl.choose import choose
from ppl.compiled import compiled
from ppl.distributions.density import check_parameters, log_density
from ppl.distributions.sampling import draw
from ppl.errors import ParameterError, UnsupportedProgram
from ppl.estimators.registry import check_admitted
from ppl.given import coerced
from ppl.noise import Noise, check_key
from ppl.runtime_checks import check_distribution
from ppl.source import user_line
from ppl.trace import Trace
from ppl.undifferentiated import DRAWS, undifferentiated


class Measure(ABC):
    """Something that can be drawn, scored and transformed.

    A distribution with its parameters, a generative function applied to its arguments, a conditioned
    program: one class of things with one set of methods. A measure is a pytree.
    """

    @abstractmethod
    def __matmul__(self, address: str | tuple[str, ...]) -> Any:
        """Inside a program: draw, record under the address, and return what the measure returns.

        `program(args) @ ()` records the program's choices under their own addresses.
        """

    @abstractmethod
    def propose(self) -> Trace:
        """Inside a program: draw a trace, with its log density, without recording it."""

    def propose_given(
        self, observed: Any, weighed: Iterable[str | Address] | None = None
    ) -> tuple[Trace, jax.Array]:
        """Inside a program: a trace that agrees with `observed`, and a log weight; `generate` without a key.

        What is not observed is drawn, as `propose` draws it.

        Args:
            observed: values of some choices.
            weighed: the addresses, or what they begin with, whose log densities make up the weight; by
                default those that are observed, so that `E[exp(weight)]` is their density. Of a conditioned
                measure, what it is conditioned on counts always.
        """
        raise UnsupportedProgram(f"{self!r} does not say how it is drawn where some choices are given.")

    @abstractmethod
    def log_density(self, choices: Any, *, key: jax.Array | None = None) -> jax.Array:
        """Log density of the choices: a scalar of at least float32; `-inf` outside the support.

        Where it is estimated (a marginal or a normalized measure, or a program with such a part), its
        exponential is unbiased.

        Args:
            choices: all of them.
            key: of the estimate; not used where the density is exact. Inside a program leave it out: the
                estimate makes choices of the program.

        Raises:
            MissingChoice, UnusedChoice, ChoiceShapeError, ChoiceDtypeError: the choices do not fit.
            ChoiceOutsideProgram: an estimate outside any program, without a key.
        """

    @abstractmethod
    def simulate(self, key: jax.Array) -> Trace:
        """One draw."""

    @abstractmethod
    def generate(self, key: jax.Array, observed: Any) -> tuple[Trace, jax.Array]:
        """A trace that agrees with `observed`, and its log weight `w`: `E[exp(w)]` is their density."""

    @abstractmethod
    def using(self, estimators: Any) -> Measure:
        """The same measure with other gradient estimators.

        Args:
            estimators: for a distribution, an estimator. For a program, a mapping from address pattern
                (`{"layers/*/z": Reinforce()}`), or from a predicate of (address, family), to estimator; a
                function of (address, family) that returns one, or `None` to keep what is there; or a policy,
                an object with a method `estimator_for`. See `ppl.choose.Using`.
        """

    def update(self, key: jax.Array, trace: Trace, changed: Any) -> tuple[Trace, jax.Array]:
        """The trace with some choices changed, and perhaps of other arguments; and the log of its weight.

        What the trace has made and is not changed stays as it is, if the program still makes it. What it has
        not made, because it took another branch or has another length, is drawn. The weight is

            log p(new choices) - log p(old choices) - log of the density of what was drawn,

        so that weighted traces of one program become weighted traces of another.

        Args:
            key: for what is drawn.
            trace: of this program, by its own arguments.
            changed: new values of some choices; none, `{}`, where only arguments have changed.

        Raises:
            UnusedChoice, ChoiceShapeError, ChoiceDtypeError: what is changed does not fit.
            UnsupportedProgram: a part of the program has an estimated density.
        """
        raise UnsupportedProgram(f"{self!r} has no addresses to change.")

    def regenerate(
        self, key: jax.Array, trace: Trace, addresses: str | Iterable[str | Address]
    ) -> tuple[Trace, jax.Array]:
        """The trace with some choices drawn anew from the program, and the log of its weight.

        The weight is the log density of what is kept, after, less that before: accepting with the minimum of
        one and its exponential leaves the law of the program's traces, given what is kept, as it is
        (Metropolis, Hastings).

        Args:
            key: for what is drawn.
            trace: of this program.
            addresses: of the choices to draw anew, or what they begin with.

        Raises:
            UnknownAddress: the program has no choice there.
            UnsupportedProgram: a part of the program has an estimated density.

        Reference: Cusumano-Towner, Saad, Lew, Mansinghka, "Gen: a general-purpose probabilistic programming
        system with programmable inference", 2019.
        """
        raise UnsupportedProgram(f"{self!r} has no addresses to draw anew.")

    def condition(self, observed: Mapping[Any, Any]) -> Measure:
        """The unnormalized measure over the rest, given some choices."""
        raise UnsupportedProgram(f"{self!r} has no addresses to condition on.")


class Distribution(Measure):
    """A distribution with its parameters; array parameters make an array of independent draws.

    Made by the families of `ppl` (`ppl.normal(0.0, 1.0)`) or from any NumPyro distribution by
    `ppl.dist`.

    Attributes:
        family: the family's name.
        numpyro: the NumPyro distribution.
        estimator: the gradient estimator, or `None` for the family's default.
        source: the user's line that made it.
    """

    def __init__(self, family: str, numpyro: Any, estimator: Any = None, source: str = "") -> None:
        self.family, self.numpyro, self.estimator, self.source = family, numpyro, estimator, source

    def __repr__(self) -> str:
        return f"{self.family}(...)"

    @override
    def __matmul__(self, address: str | tuple[str, ...]) -> Any:
        name = canonical(address)
        if not name:
            raise TypeError(f"a single choice needs an address: {self.family}(...) @ 'name' ({user_line()})")
        return choose(self.family, self.numpyro, self.estimator, name, user_line())

    @override
    def propose(self) -> Trace:
        value = choose(self.family, self.numpyro, self.estimator, None, user_line())
        score = log_density if self.estimator is None else self.estimator.log_density
        return Trace(value, jnp.sum(score(self.numpyro, value)), value)

    @override
    def propose_given(
        self, observed: Any, weighed: Iterable[str | Address] | None = None
    ) -> tuple[Trace, jax.Array]:
        value = self._coerced(observed)
        score = (
            log_density(self.numpyro, value)
            if self.estimator is None
            else self.estimator.log_density(self.numpyro, value)
        )
        return Trace(value, jnp.sum(score), value), jnp.sum(score)

    @override
    def log_density(self, choices: Any, *, key: jax.Array | None = None) -> jax.Array:
        return compiled(_score, self, self._coerced(choices))

    def _coerced(self, value: Any) -> jax.Array:
        aval = jax.eval_shape(lambda: draw(self.numpyro, Noise(jax.random.key(0))))
        return coerced(value, aval.shape, aval.dtype, f"the value of {self.family} ({self.source})")

    @override
    def simulate(self, key: jax.Array) -> Trace:
        return compiled(_simulate, self, check_key(key))

    @override
    def generate(self, key: jax.Array, observed: Any) -> tuple[Trace, jax.Array]:
        check_key(key)
        value = self._coerced(observed)
        score = compiled(_score, self, value)
        return Trace(value, score, value), score

    @override
    def using(self, estimators: Any) -> Distribution:
        check_admitted(estimators, self.numpyro, f"{self.family} ({user_line()})")
        return Distribution(self.family, self.numpyro, estimators, self.source)


def _score(measure: Distribution, value: Any) -> jax.Array:
    check_distribution(measure.numpyro, f"{measure.family} ({measure.source})")
    return jnp.sum(log_density(measure.numpyro, value))


def _simulate(measure: Distribution, key: jax.Array) -> Trace:
    check_distribution(measure.numpyro, f"{measure.family} ({measure.source})")
    distribution: Any = undifferentiated(measure.numpyro, DRAWS)
    value = draw(distribution, Noise(key))
    return Trace(value, jnp.sum(log_density(distribution, value)), value)


jax.tree_util.register_pytree_node(
    Distribution,
    lambda m: ((m.numpyro, m.estimator), (m.family, m.source)),
    lambda aux, children: Distribution(aux[0], children[0], children[1], aux[1]),
)


def distribution_measure(family: str, make: Callable[[], Any]) -> Distribution:
    """A measure from a function that makes a NumPyro distribution.

    Raises:
        ParameterError: concrete parameters lie outside their domain, do not fit together, or make an event
            without entries.
    """
    source = user_line()
    distribution = make()
    # A factor has no entries and is meant to: all that it has is a density.
    if 0 in distribution.event_shape and not isinstance(distribution, npd.Unit):
        raise ParameterError(
            f"{family}: one draw has shape {tuple(distribution.event_shape)}, which holds no entry "
            f"({source}). Its parameters need at least one along the axes of an event; axes of independent "
            "draws may be empty."
        )
    check_parameters(distribution, source, family)
    return Distribution(family, distribution, source=source)
