"""The choices of an expectation, and the estimators that could be tried at each."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from ppl.address import Address, matches, show
from ppl.estimators.baselines import LeaveOneOut
from ppl.estimators.protocol import Estimator
from ppl.estimators.registry import candidates as ready
from ppl.estimators.reinforce import Reinforce
from ppl.expectation import Expectation
from ppl.site import Site
from ppl.transforms.occurrences import choice_equations
from ppl.transforms.plan import static


class Spot(NamedTuple):
    """All choices of a program at one address: they get one estimator.

    Attributes:
        address: as a tuple.
        families: the names of their families, each once.
        source: the user's line of the first.
        current: the estimators that they have, with placeholders for arrays; each once.
        candidates: those that could be tried instead.
    """

    address: Address
    families: tuple[str, ...]
    source: str
    current: tuple[Estimator, ...]
    candidates: tuple[Estimator, ...]

    @property
    def pattern(self) -> str:
        """The address as a pattern of `using` that matches nothing else."""
        return glob.escape(show(self.address))


def spots(objective: Expectation, args: tuple[Any, ...], candidates: Any = None) -> list[Spot]:
    """The choices of an expectation, by address, in program order.

    Args:
        objective: the expectation.
        args: its arguments.
        candidates: the estimators to be tried, `...` among them standing for all that are unbiased and need
            no arguments; or a mapping from address pattern to such a sequence, the first that matches
            deciding. `None` is `[...]`.
    """
    groups: dict[Address, list[Any]] = {}
    for equation in choice_equations(objective.stage(*args).jaxpr):
        groups.setdefault(equation.params["site"].address, []).append(equation)
    return [_spot(address, equations, candidates) for address, equations in groups.items()]


def _spot(address: Address, equations: Sequence[Any], candidates: Any) -> Spot:
    sites: list[Site] = [equation.params["site"] for equation in equations]
    shapes = [site.one_lane([v.aval for v in equation.invars])[0]
              for site, equation in zip(sites, equations, strict=True)]  # fmt: skip

    def exists(estimator: Estimator) -> bool:
        """At every choice of the address, and not what they all have already."""
        prepared = [estimator.prepare(site.support) for site in sites]
        admitted = all(e.admits(shape) for e, shape in zip(prepared, shapes, strict=True))
        same = not jax.tree.leaves(estimator) and all(
            _alike(jax.tree.structure(e), jax.tree.structure(static(site)[1]))
            for e, site in zip(prepared, sites, strict=True)
        )
        return admitted and not same

    wanted: list[Estimator] = []
    for entry in _wanted(address, candidates):
        if entry is ...:
            wanted += [*ready(shapes[0], sites[0].support), Reinforce(baseline="loo")]
        else:
            wanted.append(entry)
    kinds = {spelled(static(site)[1]): static(site)[1] for site in sites}
    return Spot(
        address, tuple(dict.fromkeys(site.family for site in sites)), sites[0].source, tuple(kinds.values()),
        tuple(estimator for estimator in wanted if exists(estimator)),
    )  # fmt: skip


def _alike(one: Any, other: Any) -> bool:
    """Whether two structures are the same; JAX (0.11) calls dataclasses of two classes equal."""
    return hash(one) == hash(other) and one == other


def _wanted(address: Address, candidates: Any) -> Sequence[Any]:
    if candidates is None:
        return [...]
    if isinstance(candidates, Mapping):
        return next((found for pattern, found in candidates.items() if matches(pattern, address)), ())
    return candidates


def spelled(estimator: Estimator) -> str:
    """An estimator as a user writes it, with `...` for arrays and functions.

    Example:
        >>> from ppl.estimators import Reinforce
        >>> spelled(Reinforce()), spelled(Reinforce(baseline="loo"))
        ('Reinforce()', "Reinforce(baseline='loo')")
    """
    assert dataclasses.is_dataclass(estimator)
    given = []
    for field in dataclasses.fields(estimator):
        value = getattr(estimator, field.name)
        if field.repr and not (value is None or value is field.default):
            given.append(f"{field.name}={_short(value)}")
    return f"{type(estimator).__name__}({', '.join(given)})"


def _short(value: Any) -> str:
    if isinstance(value, LeaveOneOut):
        return repr("loo")
    if isinstance(value, (bool, int, float, str)) or dataclasses.is_dataclass(value):
        return repr(value)
    return "..."
