"""Simulation-based calibration: whether draws of a posterior are draws of the posterior."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from ppl.choices import Choices
from ppl.measure import Measure
from ppl.noise import check_key
from ppl.report.words import aligned
from ppl.testing.coverage import Coverage, coverage_of
from ppl.testing.ecdf_bands import Bands, bands, p_value
from ppl.testing.quantities import CUSTOM, LIKELIHOOD, PARAMETER, PROJECTION, quantities_of, split_of
from ppl.testing.replicates import Replicates

# Rows of a table; what is wrong comes first.
_ROWS = 24


@dataclass(frozen=True)
class Quantity:
    """The ranks of one quantity.

    Attributes:
        name: of the quantity.
        kind: `parameter`, `square`, `likelihood`, `projection` or `custom`.
        ranks: how many posterior draws lie below the truth, for each replicate where all are numbers.
        invalid: the number of replicates where something is not a number.
        p_value: the probability that uniform ranks come as far out as these.
        draws: the largest rank.
    """

    name: str
    kind: str
    ranks: np.ndarray = field(repr=False)
    invalid: int
    p_value: float
    draws: int

    @property
    def shift(self) -> float:
        """Mean of the ranks against that of uniform ones, in standard errors."""
        centered = (self.ranks + 0.5) / (self.draws + 1) - 0.5
        return float(centered.mean() * math.sqrt(12 * len(centered))) if len(centered) else math.nan

    @property
    def spread(self) -> float:
        """Spread of the ranks against that of uniform ones, in standard errors."""
        centered = (self.ranks + 0.5) / (self.draws + 1) - 0.5
        excess = (centered**2).mean() - 1 / 12 if len(centered) else math.nan
        return float(excess * math.sqrt(180 * len(centered)))

    @property
    def words(self) -> str:
        """What kind of deviation the ranks show."""
        if self.invalid:
            return f"not a number in {self.invalid} replicates"
        if self.kind == LIKELIHOOD:
            low, high = "draws fit the data too well", "draws fit the data too badly"
        else:
            low, high = "draws too large", "draws too small"
        found = []
        if abs(self.shift) > 3:
            found.append(low if self.shift < 0 else high)
        if abs(self.spread) > 3 and self.kind in (PARAMETER, PROJECTION):
            found.append("too narrow" if self.spread > 0 else "too wide")
        return ", ".join(found) or "an irregular shape"


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` has found. `str` makes a table of it, `plot` a picture.

    Attributes:
        quantities: the ranks of each quantity.
        replicates: how many truths were drawn.
        draws: how many draws of each posterior.
        rate: the probability that a right posterior fails.
        gate: whether ranks that are not uniform are a failure, or only reported.
    """

    quantities: tuple[Quantity, ...]
    replicates: int
    draws: int
    rate: float
    gate: bool

    @property
    def outside(self) -> tuple[Quantity, ...]:
        """The quantities whose ranks leave the bands, or are not numbers; the clearest first."""
        each = self.rate / len(self.quantities)
        wrong = [q for q in self.quantities if q.invalid or q.p_value <= each]
        # Below 1e-10 a p-value is rounding.
        return tuple(sorted(wrong, key=lambda q: (not q.invalid, max(q.p_value, 1e-10))))

    @property
    def passed(self) -> bool | None:
        """Whether all ranks are as those of a right posterior; `None` where they are only reported."""
        return not self.outside if self.gate else None

    @property
    def verdict(self) -> str:
        """`calibrated`, `not calibrated`, or `reported` where nothing is judged."""
        return {True: "calibrated", False: "not calibrated", None: "reported"}[self.passed]

    def bands(self) -> Bands:
        """The bands of the ranks' distribution function, for every quantity at once."""
        return bands(self.replicates, self.draws, self.rate / len(self.quantities))

    def coverage(self, levels: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)) -> Coverage:
        """Nominal and empirical coverage of central intervals of each parameter and custom quantity.

        Intervals lie between order statistics of the draws; the table shows the attainable level nearest to
        each of `levels`.
        """
        kept = [q for q in self.quantities if q.kind in (PARAMETER, CUSTOM) and len(q.ranks)]
        names = tuple(q.name for q in kept)
        return coverage_of(names, [q.ranks for q in kept], self.draws, self.rate, tuple(levels))

    def __getitem__(self, name: str) -> Quantity:
        """The ranks of a quantity."""
        return {q.name: q for q in self.quantities}[name]

    def __str__(self) -> str:
        outside = self.outside
        words = [""] if outside else []
        rows = [["quantity", "p", "shift", "spread", *words]]
        rest = [q for q in self.quantities if q not in outside]
        shown = [*outside, *rest][:_ROWS]
        for q in shown:
            row = [q.name, _p(q.p_value), f"{q.shift:+.1f}", f"{q.spread:+.1f}"]
            rows.append(row + [q.words if q in outside else word for word in words])
        more = len(self.quantities) - len(shown)
        note = f"\n({more} more)" if more else ""
        return f"{self._head()}\n\n{aligned(rows, right=(1, 2, 3))}{note}"

    def _head(self) -> str:
        count, wrong = len(self.quantities), len(self.outside)
        where = f"{wrong} of {count} quantities leave" if wrong != 1 else f"1 of {count} quantities leaves"
        tail = f"the bands, which a right posterior does with probability {self.rate:g} at most"
        return (
            f"{self.verdict}: {where} {tail}\n"
            f"({self.replicates} replicates of {self.draws} draws; shift and spread of the ranks in "
            f"standard errors)"
        )

    def plot(self) -> Any:
        """A Matplotlib figure: for each quantity the ranks' distribution function less the uniform one.

        Raises:
            ImportError: Matplotlib is not installed; `pip install "ppl[plots]"` does that.
        """
        from ppl.testing.pictures import calibration_picture

        return calibration_picture(self)


def calibrate(
    model: Measure, posterior: Callable[[jax.Array, Choices], Any], key: jax.Array, *, observed: Any,
    replicates: int = 1000, draws: int = 99,
    quantities: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    rate: float = 0.01, gate: bool = True, vectorized: bool = True, batch_size: int = 100,
) -> Calibration:  # fmt: skip
    r"""Whether an algorithm draws from the posterior, over data that the model itself makes up.

    For each replicate parameters and data are drawn from the model, and `L` draws from what should be the
    posterior given those data. If it is, then truth and draws are exchangeable, and the rank of `f(truth,
    data)` among the `f(draw, data)` is uniform on `0, ..., L` for every function `f`. Those looked at are

    - each entry of the parameters, and its square about the prior's mean;
    - the log likelihood of the data. Without a function of the data too, nothing is seen of a posterior that
      ignores them, all or in part: ranks of the parameters alone are uniform even for the prior;
    - a random projection of all parameters, if there are several;
    - whatever `quantities` adds.

    The distribution function of each must stay in bands that it leaves by chance with probability `rate / Q`
    at most, computed exactly for ranks that are discrete; all `Q` together with probability `rate` at most.
    A fault that the ranks of these quantities do not show stays unseen, as does one too small for the number
    of replicates: for a scale that is wrong by a tenth, take some thousands.

    Args:
        model: a generative function applied to its arguments; it is simulated as a whole.
        posterior: a function of a key and the data (choices) that returns one of: a measure, such as a guide,
            that is drawn from; the parameters as one draw; `draws` draws of them, along a first axis. Draws
            of one replicate must be independent: thin a Markov chain.
        key: a key made by `jax.random.key`.
        observed: the addresses of the data, or of programs that hold them.
        replicates: how many truths are drawn.
        draws: how many draws of each posterior; 99 makes ranks of two digits.
        quantities: more functions of (choices, data) to a number, by name.
        rate: the probability that a right posterior fails, at most.
        gate: whether ranks that are not uniform make the verdict. `False` for a guide that is known to be
            restricted: its ranks are reported.
        vectorized: whether `posterior` is JAX, and compiled once for all replicates; `False` calls it for
            each.
        batch_size: how many replicates run at once, if vectorized.

    Raises:
        UnknownAddress: something in `observed` is no choice of the model.
        ValueError: the posterior's choices do not fit the model's parameters, or numbers out of range.

    Example:
        >>> import jax, ppl
        >>> from ppl.testing import calibrate
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> @ppl.gen
        ... def conjugate(y, sd):
        ...     ppl.normal(y / 2, sd) @ "x"
        >>> right = lambda key, data: conjugate(data["y"], 0.5**0.5)
        >>> calibrate(model(), right, jax.random.key(0), observed="y").verdict
        'calibrated'
        >>> narrow = lambda key, data: conjugate(data["y"], 0.5)
        >>> calibrate(model(), narrow, jax.random.key(0), observed="y")["x"].words
        'too narrow'

    References: Talts, Betancourt, Simpson, Vehtari, Gelman, "Validating Bayesian inference algorithms with
    simulation-based calibration", 2018. Modrák, Moon, Kim, Bürkner, Huurre, Faltejsková, Gelman, Vehtari,
    "Simulation-based calibration checking for Bayesian computation: the choice of test quantities shapes
    sensitivity", 2023. Säilynoja, Bürkner, Vehtari, "Graphical test for discrete uniformity", 2022.
    """
    check_key(key)
    _check_numbers(replicates, draws, rate, batch_size)
    split = split_of(model, observed)
    quantities_key, replicates_key = jax.random.split(key)
    looked_at = quantities_of(model, split, quantities_key, dict(quantities or {}))
    task = Replicates(looked_at, posterior, draws)
    keys = jax.random.split(replicates_key, replicates)
    ranks = task.vectorized(keys, min(batch_size, replicates)) if vectorized else task.one_by_one(keys)
    found = []
    for (name, kind), column in zip(looked_at.kinds(), ranks.T, strict=True):
        valid = column[column >= 0]
        p = p_value(valid, draws) if len(valid) else math.nan
        found.append(Quantity(name, kind, valid, len(column) - len(valid), p, draws))
    return Calibration(tuple(found), replicates, draws, rate, gate)


def _check_numbers(replicates: int, draws: int, rate: float, batch_size: int) -> None:
    if replicates < 20:
        raise ValueError(
            f"replicates={replicates} are too few to see anything: take 20 at least, better 1000."
        )
    if draws < 2 or batch_size < 1:
        raise ValueError(f"draws must be at least 2 and batch_size 1, got {draws} and {batch_size}.")
    if not 0 < rate < 1:
        raise ValueError(f"rate is a probability between 0 and 1, got {rate}.")


def _p(value: float) -> str:
    return "<1e-10" if value < 1e-10 else f"{value:.2g}"
