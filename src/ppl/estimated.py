"""Measures of two programs, which draw and score: what they draw beside the choices that they keep is hidden.

Most have an estimated density (a marginal); where scoring makes no choice, it is exact.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self, override

import jax
import jax.numpy as jnp

from ppl.address import Address, canonical, nearest, show
from ppl.choices import Choices
from ppl.choose import Using, layered
from ppl.compiled import compiled
from ppl.errors import MissingChoice, UnsupportedProgram, UnusedChoice
from ppl.given import coerced
from ppl.joint import needs_key
from ppl.measure import Measure
from ppl.noise import check_key
from ppl.program import Conditioned
from ppl.site import Site
from ppl.source import user_line
from ppl.trace import Trace
from ppl.transforms.hidden import Hidden, joint
from ppl.transforms.interpret import total_dtype, walk
from ppl.transforms.occurrences import choice_equations
from ppl.transforms.one_choice import Rebind
from ppl.transforms.position import Here, start
from ppl.transforms.stage import Staged, split, stage
from ppl.undifferentiated import DRAWS, fixed, undifferentiated


class Drawn(NamedTuple):
    """A draw, with an estimate of its log density.

    Attributes:
        choices: what is kept of it.
        log_density: given the choices, `E[exp(-log_density)]` is one over their density.
    """

    choices: Choices
    log_density: jax.Array


class EstimatedMeasure(Measure):
    """A measure that keeps some of what it draws, mostly without a density in closed form.

    A class of them says how it is drawn and scored, as programs of hidden choices. The rest follows, also how
    it is a part of other programs.

    Attributes:
        layers: of estimators.
        is_exact: whether the density is no estimate: scoring makes no choice, and draws with their own
            log density.
        is_fixed: whether no parameter is known to move an end of the support.
    """

    layers: tuple[Using, ...] = ()
    is_exact: bool = False
    is_fixed: bool = False

    @property
    def family(self) -> str:
        """Its name, for messages."""
        return type(self).__name__.lower()

    @abstractmethod
    def draw(self) -> Drawn:
        """Inside a program: a draw, with an estimate whose reciprocal is unbiased for that of its density."""

    @abstractmethod
    def score(self, choices: Choices) -> jax.Array:
        """Inside a program: the logarithm of an unbiased estimate of the density of the choices."""

    @abstractmethod
    def layered(self, layers: tuple[Using, ...]) -> Self:
        """The same measure with these layers of estimators."""

    @override
    def __matmul__(self, address: str | tuple[str, ...]) -> Choices:
        staged = self._staged_draw()
        kept = _kept(staged)
        source, exact = user_line(), self.is_exact and self.is_fixed
        sites = tuple(
            Site(
                address=name, recorded=True, family=self.family, exact=exact, tree=None, shape=aval.shape,
                dtype=aval.dtype, batch_shape=(), source=source,
            )
            for name, aval in kept.leaves()
        )  # fmt: skip
        scoring = self._staged_score(kept)
        self._check_layers(staged, scoring)
        bind = Rebind(canonical(address), True, layered(self.layers))
        values = joint(staged.jaxpr, scoring.jaxpr, sites, bind)
        return jax.tree.unflatten(jax.tree.structure(kept), values)

    @override
    def propose(self) -> Trace:
        staged = self._staged_draw()
        self._check_layers(staged)
        return self._drawn(staged, self._hidden(), start())

    @override
    def propose_given(
        self, observed: Mapping[Any, Any], weighed: Iterable[str | Address] | None = None
    ) -> tuple[Trace, jax.Array]:
        observed = Choices(observed)
        nothing = jnp.zeros((), total_dtype())
        if not observed:
            trace = self.propose()
            return trace, trace.log_density if weighed is not None and self._covers(weighed) else nothing
        log_density = self.log_density(observed)
        counts = weighed is None or self._covers(weighed)
        return Trace(observed, log_density, observed), log_density if counts else nothing

    @override
    def log_density(self, choices: Mapping[Any, Any], *, key: jax.Array | None = None) -> jax.Array:
        if key is not None:
            return compiled(_log_density, self, Choices(choices), check_key(key))
        with needs_key(self):
            return compiled(_log_density, self, Choices(choices))

    @override
    def simulate(self, key: jax.Array) -> Trace:
        return compiled(_simulate, self, check_key(key))

    @override
    def generate(self, key: jax.Array, observed: Mapping[Any, Any]) -> tuple[Trace, jax.Array]:
        observed = Choices(observed)
        if not observed:
            return self.simulate(key), jnp.zeros((), total_dtype())
        observed = undifferentiated(observed, DRAWS)
        log_density = self.log_density(observed, key=key)
        return Trace(observed, log_density, observed), log_density

    @override
    def condition(self, observed: Mapping[Any, Any]) -> Conditioned:
        return Conditioned(self, Choices(observed))

    @override
    def using(self, estimators: Any) -> Self:
        return self.layered((*self.layers, Using(estimators)))

    def _staged_draw(self) -> Staged:
        return stage(self.draw, split(((), {})))

    def _staged_score(self, choices: Choices) -> Staged:
        return stage(self.score, split(((jax.tree.map(_blank, choices),), {})))

    def _hidden(self) -> Hidden:
        return Hidden(Rebind((), False, layered(self.layers)))

    def _check_layers(self, *staged: Staged) -> None:
        sites = [e.params["site"] for each in staged for e in choice_equations(each.jaxpr)]
        for layer in self.layers:
            layer.check(sites)

    def _covers(self, weighed: Iterable[str | Address]) -> bool:
        """Whether addresses that count, or begin so, are those of this measure.

        Raises:
            UnsupportedProgram: some of them are, and others are not.
        """
        wanted = [canonical(address) for address in weighed]
        kept = [address for address, _ in _kept(self._staged_draw()).leaves()]
        counted = [address for address in kept if any(address[: len(w)] == w for w in wanted)]
        if counted and len(counted) < len(kept):
            raise self._partial(counted, [address for address in kept if address not in counted])
        return bool(counted)

    def _partial(self, given: list[Address], missing: list[Address]) -> UnsupportedProgram:
        shown = [", ".join(repr(show(address)) for address in some) for some in (given, missing)]
        return UnsupportedProgram(
            f"{self!r} makes its choices together: {shown[0]} cannot be told apart from {shown[1]}. Give all "
            "of them or none, and infer some from the others by a proposal over them."
        )

    def _drawn(self, staged: Staged, rule: Hidden, here: Here) -> Trace:
        drawn: Drawn = staged.returned(walk(staged.jaxpr, staged.arrays, rule, here).outputs)
        return Trace(drawn.choices, drawn.log_density, drawn.choices)

    def _fitting(self, choices: Choices) -> Choices:
        """The choices, checked against those that the measure keeps."""
        kept = dict(_kept(self._staged_draw()).leaves())
        given = dict(choices.leaves())
        names = [show(address) for address in kept]
        for address in given:
            if address not in kept:
                raise UnusedChoice(
                    f"{show(address)!r} is no choice of {self!r}, which keeps {', '.join(map(repr, names))}."
                    f"{nearest(show(address), names)}"
                )
        if missing := [address for address in kept if address not in given]:
            if given:
                raise self._partial(list(given), missing)
            raise MissingChoice(f"{self!r} needs {', '.join(map(repr, names))}, and no choices were given.")
        fit = {
            a: coerced(given[a], aval.shape, aval.dtype, f"the choice {show(a)!r}")
            for a, aval in kept.items()
        }
        return Choices(fit)


def _kept(staged: Staged) -> Choices:
    """The choices that a staged draw keeps, as shapes and dtypes."""
    return jax.tree.unflatten(staged.tree, list(staged.jaxpr.out_avals)).choices


def _blank(aval: Any) -> jax.Array:
    return jnp.zeros(aval.shape, aval.dtype)


def _log_density(measure: EstimatedMeasure, choices: Choices, key: jax.Array | None = None) -> jax.Array:
    choices = measure._fitting(choices)
    staged = stage(measure.score, split(((choices,), {})))
    if key is None:
        measure._check_layers(staged)
        rule, here = measure._hidden(), start()
    else:
        rule, here = Hidden(None), start(key, jaxpr=staged.jaxpr)
    return staged.returned(walk(staged.jaxpr, staged.arrays, rule, here).outputs)


def _simulate(measure: EstimatedMeasure, key: jax.Array) -> Trace:
    staged = fixed(measure._staged_draw(), DRAWS)
    return measure._drawn(staged, Hidden(None), start(key, jaxpr=staged.jaxpr))
