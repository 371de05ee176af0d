"""Is an estimator unbiased? Exactly where its noise can be integrated over, else by a sequential test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppl.address import matches, show
from ppl.errors import PPLError
from ppl.expectation import Expectation
from ppl.noise import check_key
from ppl.report.alternatives import spots
from ppl.testing.compared import Point, estimator, labels, point
from ppl.testing.exact import exactly, moments
from ppl.testing.report import BIASED, UNRESOLVED, BiasReport
from ppl.testing.statistical import Budget, drawing, sequentially
from ppl.testing.truth import Truth, by_quadrature, differences, from_differences
from ppl.testing.worlds import NotIntegrable
from ppl.transforms.occurrences import choice_equations
from ppl.transforms.plan import static

_LIKELY = ("Reparam", "Enumerate", "MeasureValued", "Reinforce")
"""What a choice is compared with, the first that it admits."""


class Biased(AssertionError):
    """An estimator is biased; the message is the report.

    Attributes:
        report: what was found.
    """

    def __init__(self, report: BiasReport) -> None:
        super().__init__(f"\n{report}")
        self.report = report


class Unresolved(Biased):
    """It could not be told whether an estimator is biased, with the draws that were allowed."""


def check_unbiased(
    objective: Any,
    args: Sequence[Any] = (),
    *,
    key: jax.Array,
    against: Any = None,
    order: int = 1,
    argnums: Any = 0,
    num_samples: int = 1,
    directions: int = 2,
    biased: Sequence[str] = (),
    method: str = "auto",
    false_alarm: float = 1e-6,
    resolution: float = 0.02,
    max_draws: int = 2**20,
    raises: bool = True,
) -> BiasReport:
    """Check that an estimator's mean is the truth: its value, first and, if asked, second derivative.

    *The estimator's mean.* Everything random in `ppl` goes through one noise primitive. So the estimator is
    first integrated over its own noise, by sums and quadrature in double precision: that gives `E[G]` and its
    variance to eight digits or more, and no false alarm. Where there is too much noise for that, it is drawn,
    and a test that may stop at any time (`ppl.testing.sequential`) decides.

    *The truth* is, in this order: what `against` says; the expected value by enumeration and quadrature over
    the *choices*, and central differences of it in the arguments; for a program that is too large for that,
    the mean of the same program with other estimators, which must agree.

    Derivatives are compared along each parameter, if there are 16 or fewer, and along random directions.

    Args:
        objective: an expectation; or, for an estimator of any other origin, a function of a key alone that
            returns an array or a pytree of arrays, of which `against` is the mean.
        args: the arguments of the expectation.
        key: from which draws and directions are made.
        against: for an expectation, its expected value as a differentiable function of the arguments, or
            another expectation that must have the same: with other estimators, a loop unrolled, all
            minibatches instead of all data. It may be too large to integrate over; then both are drawn from
            the same keys. For a function, a pytree of the same structure, or another function of a key.
        order: 2 to check the second derivative of `surrogate` too.
        argnums: the arguments that are differentiated.
        num_samples: as for `Expectation.grad`; two or more for leave-one-out baselines.
        directions: how many random directions to look along.
        biased: address patterns of the choices whose estimator is known to be biased, as `GumbelSoftmax` is.
            Unless it is named here, such a choice is refused. Their bias is measured and reported.
        method: `"exact"`, `"statistical"`, or `"auto"` for the first that can be done.
        false_alarm: the probability that an unbiased estimator is called biased by the sequential test.
        resolution: the bias, in standard deviations of one run, down to which the sequential test looks.
        max_draws: how many runs it may draw.
        raises: whether a finding is raised; otherwise it is only reported.

    Returns:
        The report, which prints as a table and has a `plot`.

    Raises:
        Biased: the mean is not the truth.
        Unresolved: it could not be told: the draws were too few, or no truth is known.
        PPLError: a choice has an estimator that is biased by design, and is not named in `biased`.

    Example:
        >>> import jax, ppl
        >>> from ppl.estimators import Reinforce
        >>> @ppl.expectation
        ... def win(p):
        ...     return 3.0 * (ppl.flip(p).using(Reinforce()) @ "coin") ** 2 + p
        >>> report = ppl.testing.check_unbiased(win, (0.3,), key=jax.random.key(0), order=2)
        >>> report.verdict, report.method
        ('unbiased', 'exact')
        >>> def halved(key):
        ...     return 0.5 * win.grad(key, 0.3)
        >>> ppl.testing.check_unbiased(halved, key=jax.random.key(0), against=4.0, raises=False).verdict
        'biased'

    References:
        Lew, Huot, Staton, Mansinghka, "ADEV: Sound automatic differentiation of expected values of
        probabilistic programs", 2023.
    """
    check_key(key)
    if method not in ("auto", "exact", "statistical"):
        raise ValueError(f"method is 'auto', 'exact' or 'statistical', got {method!r}")
    if order not in (1, 2):
        raise ValueError(f"order is 1 or 2, got {order!r}")
    budget = Budget(key, false_alarm, resolution, max_draws)
    if isinstance(objective, Expectation):
        with jax.enable_x64(True):
            at = point(objective, args, argnums, directions, jax.random.fold_in(key, 1))
            named = _named(at, biased)
            report = _of_expectation(at, against, order, num_samples, method, budget)
            report = _with_notes(report, named)
    else:
        report = _of_function(objective, args, against, budget)
        named = ()
    if raises and report.verdict == UNRESOLVED:
        raise Unresolved(report)
    if raises and report.verdict == BIASED and not named:
        raise Biased(report)
    return report


def _named(at: Point, biased: Sequence[str]) -> tuple[str, ...]:
    """The choices that are biased by design; all of them must have been named."""
    found = []
    for equation in choice_equations(at.staged().jaxpr):
        site = equation.params["site"]
        kind = static(site)[1]
        if not kind.biased:
            continue
        if not any(matches(pattern, site.address) for pattern in biased):
            raise PPLError(
                f"the choice {site.where} is estimated by {type(kind).__name__}, which is biased by design. "
                f"To see by how much, name it: biased=[{show(site.address)!r}]."
            )
        found.append(show(site.address))
    return tuple(dict.fromkeys(found))


def _with_notes(report: BiasReport, named: Sequence[str]) -> BiasReport:
    if not named:
        return report
    note = f"biased by design, as was said: {', '.join(named)}"
    return BiasReport(**{**vars(report), "notes": (*report.notes, note)})


# --- expectations ---------------------------------------------------------------------------------


def _of_expectation(
    at: Point, against: Any, order: int, num_samples: int, method: str, budget: Budget
) -> BiasReport:
    notes: list[str] = []
    truth = _truth(at, against, order, num_samples, notes)
    quantities = estimator(at, order, num_samples)
    if method != "statistical" and truth is not None:
        try:
            return exactly(at, quantities, truth, order, budget.key, notes)
        except NotIntegrable as reason:
            if method == "exact":
                raise PPLError(f"the estimator cannot be integrated over its noise: {reason}") from None
            notes.append(f"drawn, because its noise cannot be integrated over: {reason}")
    names = labels(at, order)
    draw = drawing(quantities, at.parts.arrays)
    if truth is not None:
        return sequentially(names, draw, truth, budget, notes)
    if method == "exact":
        raise PPLError("no truth is known exactly: " + "; ".join(notes))
    if isinstance(against, Expectation):
        compared = at._replace(objective=against), _GIVEN
    else:
        compared = _swapped(at, order, num_samples)
    if compared is None:
        raise PPLError(
            "no truth is known: the program is too large to sum over its choices, and no choice admits "
            "another estimator. Give its expected value, against=function_of_the_arguments, or another "
            "program that must have the same, against=expectation."
        )
    other, words = compared
    drawn = drawing(estimator(other, order, num_samples), at.parts.arrays)
    return sequentially(names, draw, Truth(np.zeros(0), np.zeros(0), words), budget, notes, drawn)


_GIVEN = "the mean of the expectation that was given"


def _truth(at: Point, against: Any, order: int, num_samples: int, notes: list[str]) -> Truth | None:
    if isinstance(against, Expectation):
        other = at._replace(objective=against)
        try:
            found = moments(estimator(other, order, num_samples), other, jax.random.key(1))
        except NotIntegrable as reason:
            notes.append(f"the expectation that was given is drawn too, with the same keys: {reason}")
            return None
        return Truth(found.mean, found.error, _GIVEN)
    if callable(against):
        return _closed_form(at, against, order)
    if against is not None:
        raise TypeError(
            "for an expectation, `against` is a differentiable function of its arguments or another "
            f"expectation, got {against!r}"
        )
    try:
        return by_quadrature(at, order)
    except NotIntegrable as reason:
        notes.append(f"no truth by quadrature: {reason}")
        return None


def _closed_form(at: Point, function: Callable[..., Any], order: int) -> Truth:
    """From the user's expected value, by the same central differences."""
    for shrink in (1.0, 1 / 8, 1 / 64):
        steps, lengths = differences(at.directions, at.scales(), shrink)
        arrays = at.moved(steps)
        rows = [at.parts.rebuild([jnp.asarray(x[i]) for x in arrays])[0] for i in range(len(steps))]
        values = np.array([float(function(*row)) for row in rows])
        if np.all(np.isfinite(values)):
            mean, error = from_differences(values, lengths, order)
            return Truth(mean, error, "the closed form that was given")
    raise PPLError(f"the closed form {function!r} is not finite near the arguments: it gives {values[0]}")


def _swapped(at: Point, order: int, num_samples: int) -> tuple[Point, str] | None:
    """The same objective with another estimator at every choice that admits one."""
    chosen: dict[str, Any] = {}
    for spot in spots(at.objective, at.args):
        others = [e for e in spot.candidates if getattr(e, "baseline", None) is None and not e.biased]
        names = [type(other).__name__ for other in others]
        for name in sorted(names, key=lambda name: _LIKELY.index(name) if name in _LIKELY else len(_LIKELY)):
            other = others[names.index(name)]
            changed = at._replace(objective=at.objective.using({**chosen, spot.pattern: other}))
            try:
                jax.eval_shape(estimator(changed, order, num_samples), jax.random.key(0), *at.parts.arrays)
            except PPLError:
                continue
            chosen[spot.pattern] = other
            break
    if not chosen:
        return None
    words = ", ".join(f"{address}: {type(other).__name__}" for address, other in chosen.items())
    return at._replace(objective=at.objective.using(chosen)), f"the mean with other estimators ({words})"


def _of_function(function: Any, args: Sequence[Any], against: Any, budget: Budget) -> BiasReport:
    if not callable(function):
        raise TypeError(f"expected an expectation, or a function of a key, got {function!r}")
    if against is None or args:
        raise TypeError(
            "an estimator that is a plain function takes a key alone, and its mean must be given, "
            "against=pytree of numbers: check_unbiased(lambda key: f(key, x), key=key, against=mean)"
        )
    flat = lambda tree: jnp.concatenate([jnp.ravel(jnp.asarray(x, float)) for x in jax.tree.leaves(tree)])
    shape = jax.eval_shape(function, budget.key)
    other = against if callable(against) else None
    if other is not None:
        against = jax.eval_shape(other, budget.key)
    if jax.tree.structure(shape) != jax.tree.structure(against):
        raise TypeError(
            f"the estimator returns {jax.tree.structure(shape)}, `against` is {jax.tree.structure(against)}"
        )
    for (path, found), wanted in zip(
        jax.tree_util.tree_leaves_with_path(shape), jax.tree.leaves(against), strict=True
    ):
        if found.shape != np.shape(wanted):
            raise TypeError(
                f"the estimator returns shape {found.shape} at {jax.tree_util.keystr(path) or 'its top'}, "
                f"`against` has shape {np.shape(wanted)}"
            )
    names = [
        jax.tree_util.keystr(path) + (str(list(index)) if index else "") or "value"
        for path, leaf in jax.tree_util.tree_leaves_with_path(shape)
        for index in np.ndindex(*leaf.shape)
    ]
    draw = drawing(lambda key: flat(function(key)), ())
    if other is not None:
        unknown = Truth(np.zeros(0), np.zeros(0), "the mean of the function that was given")
        return sequentially(names, draw, unknown, budget, [], drawing(lambda key: flat(other(key)), ()))
    mean = np.asarray(flat(against), np.float64)
    truth = Truth(mean, 4e-6 * np.maximum(1, np.abs(mean)), "the mean that was given")
    return sequentially(names, draw, truth, budget, [])
