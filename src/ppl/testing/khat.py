"""Whether a guide is good enough to estimate with, and what is at fault if it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from ppl.measure import Measure
from ppl.noise import check_key
from ppl.report.words import aligned
from ppl.testing.causes import Case, Finding, find
from ppl.testing.pareto import Weights
from ppl.testing.proposals import of_guide

NONE, OPTIMIZER, FAMILY, MODEL, UNKNOWN = "none", "optimizer", "family", "model", "unknown"


class Attempt(NamedTuple):
    """Weights of another proposal for the same target.

    Attributes:
        name: what was changed.
        weights: its importance weights.
    """

    name: str
    weights: Weights


@dataclass(frozen=True)
class KhatReport:
    """What `psis_khat` has found. `str` makes a table and a message of it, `plot` a picture.

    Attributes:
        weights: the guide's importance weights, with their tail smoothed.
        elbo: mean of the log weights; `-inf` if the target rules out a draw.
        elbo_error: its standard error.
        attempts: other proposals that were tried to find the cause.
        reliable: whether estimates under the guide can be trusted; `None` where that cannot be told.
        cause: of unreliable weights: `optimizer`, `family`, `model`, `optimizer or family` where nothing
            tells these apart, `unknown`; `none` where the weights are reliable.
        evidence: sentences: what was measured.
        advice: what to do.
    """

    weights: Weights
    elbo: float
    elbo_error: float
    attempts: tuple[Attempt, ...]
    reliable: bool | None
    cause: str
    evidence: tuple[str, ...]
    advice: str

    @property
    def khat(self) -> float:
        """The estimated tail shape of the guide's weights."""
        return self.weights.khat

    @property
    def threshold(self) -> float:
        """What the tail shape may be at most, with this number of draws."""
        return self.weights.threshold

    @property
    def message(self) -> str:
        """Verdict, cause, evidence and advice."""
        weights = self.weights
        if weights.status == "fitted":
            sign = "<=" if self.khat <= self.threshold else ">"
            said = f"k-hat {self.khat:.2f} {sign} {self.threshold:.2f}"
        else:
            said = f"no k-hat: {weights.status}"
        trust = {
            True: "estimates under this guide can be trusted",
            False: "estimates under this guide cannot be trusted",
            None: "whether estimates under this guide can be trusted cannot be told",
        }[self.reliable]
        lines = [f"{said}: {trust}."]
        if self.cause != NONE:
            lines.append("cause: cannot be told" if self.cause == UNKNOWN else f"cause: {self.cause}")
        lines += [f"- {sentence}" for sentence in self.evidence]
        return "\n".join([*lines, self.advice] if self.advice else lines)

    def __str__(self) -> str:
        rows = [["proposal", "k-hat", "effective draws", "log evidence"]]
        for name, weights in [("guide", self.weights), *self.attempts]:
            shape = f"{weights.khat:.2f}" if math.isfinite(weights.khat) else weights.status
            rows.append([name, shape, f"{weights.effective_draws:.0f}", f"{weights.log_mean:.4g}"])
        draws = len(self.weights.log_weights)
        head = f"ELBO {self.elbo:.4g} ± {self.elbo_error:.1g} ({draws} draws)"
        return f"{self.message}\n\n{head}\n{aligned(rows, right=(1, 2, 3))}"

    def plot(self) -> Any:
        """A Matplotlib figure: the tail of the weights with its fit, and the tail shapes of all proposals.

        Raises:
            ImportError: Matplotlib is not installed; `pip install "ppl[plots]"` does that.
        """
        from ppl.testing.pictures import khat_picture

        return khat_picture(self)


def psis_khat(
    target: Measure, guide: Measure | Callable[[Any], Measure], key: jax.Array, *, params: Any = None,
    objective: Any = None, num_samples: int = 4000, steps: int = 300, diagnose: bool = True,
) -> KhatReport:  # fmt: skip
    r"""The tail shape of a guide's importance weights, and what makes it bad: optimizer, family or model.

    The weights `p(x) / q(x)` at draws `x` of the guide have a tail like that of a Pareto distribution, with
    finite moments up to order `1/k`. Up to `k = 0.7`, or `1 - 1/log10 S` for few draws, estimates under the
    guide can be trusted, corrected by the weights; beyond, not even corrected. It looks where the guide goes:
    of a mode far from all draws it knows nothing. That the guide misses mass is noticed where draws of the
    prior find it, which is the case for few parameters.

    If the weights are bad, three questions are asked, and the answers are in the report:

    - *model*: is a density not a number or infinite, at draws of the guide or the prior? Does the target's
      mass along some ray not end, so that there is no posterior?
    - *optimizer*, with `params`: is the objective's gradient there other than zero, and does it gain from
      `steps` more steps of Adam? If `k` becomes good by that, or the gain is material, the optimizer is the
      cause.
    - *family*, if it is not: does the guide become good when its draws are moved to the mean, then to the
      scales, then to the covariance that the weights ask for? What helps is what the family lacks. If nothing
      does, it is the shape: tails, skewness or several modes.

    Args:
        target: an unnormalized measure, mostly a conditioned program, as in `ppl.elbo`.
        guide: a program; or a function from `params` to one, which lets the optimizer be told from the
            family.
        key: a key made by `jax.random.key`.
        params: where the guide is looked at, if it is a function.
        objective: what `params` were trained to maximize, an expectation of them; by default the ELBO.
        num_samples: how many draws.
        steps: how many steps more the optimizer is given, if the weights are bad.
        diagnose: whether a cause is looked for at all.

    Raises:
        TypeError: `params` without a function, or a function without.
        PPLError: the guide's choices are not those of the target.

    Example:
        >>> import jax, ppl
        >>> from ppl.testing import psis_khat
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> @ppl.gen
        ... def guide(sd):
        ...     ppl.normal(0.5, sd) @ "x"
        >>> target = model().condition({"y": 1.0})
        >>> psis_khat(target, guide(0.8), jax.random.key(0)).reliable
        True
        >>> report = psis_khat(target, guide(0.1), jax.random.key(0))
        >>> report.reliable, report.cause  # without params nothing tells these two apart
        (False, 'optimizer or family')

    References: Vehtari, Simpson, Gelman, Yao, Gabry, "Pareto smoothed importance sampling", 2024. Yao,
        Vehtari,
    Simpson, Gelman, "Yes, but did it work? Evaluating variational inference", 2018. Paananen, Piironen,
    Bürkner, Vehtari, "Implicitly adaptive importance sampling", 2021.
    """
    check_key(key)
    at = _guide(guide, params)
    if num_samples < 1 or steps < 1:
        raise ValueError(f"num_samples and steps must be positive, got {num_samples} and {steps}.")
    draw_key, cause_key = jax.random.split(key)
    draws = of_guide(target, at, draw_key, num_samples)
    weights, logs = draws.weights, draws.log_weights
    function = None if isinstance(guide, Measure) else guide
    case = Case(target, at, function, params, objective, draws, weights, steps, draw_key)
    found = find(case, cause_key) if diagnose else Finding(weights.reliable, UNKNOWN, [], "", {})
    finite = np.isfinite(logs).all()
    error = float(logs.std() / math.sqrt(len(logs))) if finite else math.nan
    attempts = tuple(Attempt(name, other) for name, other in found.attempts.items())
    cause = NONE if found.reliable else found.cause
    return KhatReport(
        weights,
        float(logs.mean()),
        error,
        attempts,
        found.reliable,
        cause,
        tuple(found.evidence),
        found.advice,
    )


def _guide(guide: Any, params: Any) -> Measure:
    if isinstance(guide, Measure):
        if params is not None:
            raise TypeError(
                "params= goes with a function from parameters to a guide: psis_khat(target, guide, key, "
                "params=...), "
                "not guide(params)."
            )
        return guide
    if params is None or not callable(guide):
        raise TypeError(
            "the guide is a program applied to its arguments, guide(params); or a function together with "
            "params=."
        )
    at = guide(params)
    if not isinstance(at, Measure):
        raise TypeError(f"guide(params) is a measure, got {type(at).__name__}.")
    return at
