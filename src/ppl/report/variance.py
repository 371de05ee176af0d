"""The variance of a gradient, choice by choice, and what other estimators would make of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax

from ppl.address import show
from ppl.errors import PPLError
from ppl.estimators.protocol import Estimator
from ppl.expectation import Expectation
from ppl.noise import check_key
from ppl.report.alternatives import Spot, spelled, spots
from ppl.report.measure import BATCHES, Batch, Measurement, Task, gradient_batch, measured
from ppl.report.parts import measured_parts
from ppl.report.words import first_sentence, text


@dataclass(frozen=True)
class Alternative:
    """Another estimator at one choice, all others left as they are.

    Attributes:
        estimator: the estimator.
        name: as a user writes it.
        measurement: of the whole gradient with it; `None` where the program is refused.
        refused: why, in a sentence.
    """

    estimator: Estimator
    name: str
    measurement: Measurement | None
    refused: str = ""


@dataclass(frozen=True)
class Choice:
    """What is reported of the choices at one address.

    Attributes:
        address: with slashes.
        family: the family's name; several, if choices of several families share the address.
        source: the user's line.
        estimator: the estimator in use, as a user writes it.
        part: of the gradient, the part that this estimator makes: see `variance_report`.
        share: the variance of that part, relative to the gradient's. Parts are correlated, so shares need
            not add up to one.
        alternatives: the estimators that could be used instead.
    """

    address: str
    family: str
    source: str
    estimator: str
    part: Measurement = field(repr=False)
    share: float
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True)
class VarianceReport:
    """What `variance_report` has measured. `str` makes a table of it, `plot` a picture.

    Attributes:
        gradient: the whole gradient, with the estimators as they are.
        choices: of each address, in program order.
        direct: the part of the gradient that passes no choice: the result's own derivative in the parameters.
        parameters: the arrays that are differentiated, as paths, in the order of `Measurement.variances`.
        num_runs: how many estimates were made of each.
        num_samples: how many runs an estimate averages.
    """

    gradient: Measurement
    choices: tuple[Choice, ...]
    direct: Measurement
    parameters: tuple[str, ...]
    num_runs: int
    num_samples: int

    def __str__(self) -> str:
        return text(self)

    def plot(self) -> Any:
        """A Matplotlib figure: the variance of each choice's part, and what its alternatives cost.

        Raises:
            ImportError: Matplotlib is not installed; `pip install "ppl[plots]"` does that.
        """
        from ppl.report.picture import picture

        return picture(self)

    def __getitem__(self, address: str) -> Choice:
        """What is reported of the choices at an address."""
        return {choice.address: choice for choice in self.choices}[address]


def variance_report(
    objective: Expectation, key: jax.Array, *args: Any, argnums: Any = 0, num_samples: int = 4,
    num_runs: int = 500, candidates: Any = None,
) -> VarianceReport:  # fmt: skip
    r"""Where the variance of a gradient comes from, and which estimators would have less: all measured.

    The gradient of one estimate is a sum, exactly and in every run, of one part for each choice and a direct
    part. A derivative goes from a parameter to the result along paths; the last choice on a path owns it:

    - of a scored choice the part is `(R - baseline) d log p`, with its return `R`;
    - of one with phantoms, the weights' derivatives times the differences of the returns;
    - of a reparameterized one, the derivative of the result in its value, `df/dx dx`, however the value
      depends on the parameters.

    The variance of a part, the trace of its covariance over all parameters, says what its estimator puts in.
    What another estimator would make of the *whole* gradient is not concluded from that but measured:
    for each choice and each unbiased estimator that it admits, the program is compiled and run with this one
    estimator changed. All variances and times are of a single run; their product does not depend on how many
    runs are averaged, and is what is compared. Estimators that keep a state
    (`Reinforce(baseline="average")`) are measured at its start.

    Args:
        objective: what `@ppl.expectation` makes.
        key: a key made by `jax.random.key`.
        *args: the arguments of the objective; what a variance is depends on them.
        argnums: which of them are differentiated.
        num_samples: how many runs each estimate averages: as in training, for baselines that compare them.
        num_runs: how many independent estimates are made of each gradient. The relative error of a
            variance is about `sqrt(2 / num_runs)`, more if the gradient has heavy tails.
        candidates: the estimators that are tried at each choice that admits them; `...` among them stands for
            all that are unbiased and need no arguments. Or a mapping from address pattern to such a
            sequence. By default `[...]`; `[]` tries none.

    Raises:
        PPLError: the program is refused as it is.
        ValueError: too few runs.

    Example:
        >>> import jax, ppl
        >>> from ppl.estimators import Reinforce
        >>> @ppl.expectation
        ... def objective(mean):
        ...     return (ppl.normal(mean, 1.0).using(Reinforce()) @ "x") ** 2
        >>> report = ppl.variance_report(objective, jax.random.key(0), 1.0, num_runs=2000)
        >>> gradient = report.gradient
        >>> bool(abs(gradient.variance - 30.0) < 5 * gradient.error)  # that of x**2 (x - 1) is 30
        True
        >>> better = {other.name: other.measurement.variance for other in report["x"].alternatives}
        >>> better["Reparam()"] < 5.0
        True
    """
    check_key(key)
    task = Task(args, argnums, num_samples, num_runs)
    found = spots(objective, args, candidates)
    configurations: dict[Any, Expectation] = {(): objective}
    batches: dict[Any, Batch] = {(): gradient_batch(objective, task)}
    refused: dict[Any, str] = {}
    for number, spot in enumerate(found):
        for other, estimator in enumerate(spot.candidates):
            changed = objective.using({spot.pattern: estimator})
            try:
                batches[number, other] = gradient_batch(changed, task)
                configurations[number, other] = changed
            except PPLError as error:
                refused[number, other] = first_sentence(str(error))
    gradients = measured(configurations, batches, key, task)
    parts = measured_parts(objective, [spot.address for spot in found], key, task)
    whole = gradients[()]
    choices = []
    for number, spot in enumerate(found):
        others = tuple(
            Alternative(
                estimator,
                spelled(estimator),
                gradients.get((number, other)),
                refused.get((number, other), ""),
            )
            for other, estimator in enumerate(spot.candidates)
        )
        choices.append(_choice(spot, parts[number], whole, others))
    names = _names(objective, key, task)
    return VarianceReport(whole, tuple(choices), parts[-1], names, task.batch * BATCHES, num_samples)


def _choice(spot: Spot, part: Measurement, whole: Measurement, others: tuple[Alternative, ...]) -> Choice:
    share = part.variance / whole.variance if whole.variance else 0.0
    current = ", ".join(spelled(estimator) for estimator in spot.current)
    return Choice(show(spot.address), ", ".join(spot.families), spot.source, current, part, share, others)


def _names(objective: Expectation, key: jax.Array, task: Task) -> tuple[str, ...]:
    """The paths of the arrays that are differentiated."""
    shapes = jax.eval_shape(
        lambda key: objective.grad(key, *task.args, argnums=task.argnums, num_samples=task.num_samples), key
    )
    paths, _ = jax.tree.flatten_with_path(shapes)
    return tuple(jax.tree_util.keystr(path) or "(the argument)" for path, _ in paths)
