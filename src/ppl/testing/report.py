"""What a check for bias has found: a table, a verdict and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ppl.report.words import aligned

UNBIASED, BIASED, UNRESOLVED = "unbiased", "biased", "unresolved"


class Row(NamedTuple):
    """One quantity: the value, or a derivative along one direction.

    Attributes:
        quantity: its name.
        estimate: the estimator's mean, or an estimate of it.
        truth: what the mean must be.
        radius: half the width of an interval about `estimate` that holds the estimator's mean; of an
            integral, the error of quadrature.
        deviation: the standard deviation of one run.
        verdict: of this quantity.
    """

    quantity: str
    estimate: float
    truth: float
    radius: float
    deviation: float
    verdict: str

    @property
    def bound(self) -> float:
        """How large the bias can be, with what is known now."""
        return abs(self.estimate - self.truth) + self.radius


@dataclass(frozen=True)
class BiasReport:
    """What `check_unbiased` has found.

    Attributes:
        rows: one for each quantity.
        method: how the estimator's mean was found: "exact" or "statistical".
        source: where the truth is from.
        draws: how many runs were drawn; of an exact check, how many assignments of noise were summed over.
        false_alarm: the probability that an unbiased estimator is called biased; zero if exact.
        detectable: the bias, in standard deviations of one run, that is found in 99 of 100 cases; zero if
            exact.
        notes: what else there is to say, a line each.
    """

    rows: tuple[Row, ...]
    method: str
    source: str
    draws: int
    false_alarm: float
    detectable: float
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """`"unbiased"`, `"biased"`, or `"unresolved"` where it could not be told."""
        found = {row.verdict for row in self.rows}
        return next((word for word in (BIASED, UNRESOLVED) if word in found), UNBIASED)

    def __str__(self) -> str:
        return text(self)

    def plot(self) -> Any:
        """Each quantity's estimate less the truth, with its interval, as a Matplotlib figure."""
        return picture(self)


def text(report: BiasReport) -> str:
    """The report as an aligned table."""
    rows = [["quantity", "mean", "truth", "difference", "interval", "deviation", "verdict"]]
    for row in report.rows:
        numbers = [f"{x:.7g}" for x in (row.estimate, row.truth)]
        off = [f"{row.estimate - row.truth:.2g}", f"± {row.radius:.1g}", f"{row.deviation:.3g}"]
        rows.append([row.quantity, *numbers, *off, row.verdict])
    lines = [
        f"{report.verdict}, {_how(report)}",
        f"truth: {report.source}",
        "",
        aligned(rows, right=(1, 2, 3, 4, 5)),
    ]
    return "\n".join([*lines, *(["", *report.notes] if report.notes else [])])


def _how(report: BiasReport) -> str:
    if report.method == "exact":
        return f"exactly: the mean over {report.draws:,} assignments of all noise"
    return (
        f"by {report.draws:,} draws: false alarms {report.false_alarm:.0e}; a bias of "
        f"{report.detectable:.2g} standard deviations is found in 99 of 100 cases"
    )


def picture(report: BiasReport) -> Any:
    """Differences from the truth, in standard deviations of one run, and their intervals."""
    from matplotlib.figure import Figure

    rows = report.rows
    figure = Figure(figsize=(7.5, 1.4 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    colors = {UNBIASED: "#0072B2", BIASED: "#D55E00", UNRESOLVED: "0.4"}
    for number, row in enumerate(rows):
        scale = row.deviation or max(abs(row.truth), 1.0)
        axes.errorbar(
            (row.estimate - row.truth) / scale, number, xerr=row.radius / scale, fmt="o",
            color=colors[row.verdict], markersize=4, capsize=3, linewidth=1,
        )  # fmt: skip
    axes.axvline(0.0, color="0.4", linewidth=1, linestyle="--", zorder=0)
    axes.set_yticks(range(len(rows)), [row.quantity for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("mean less truth, in standard deviations of one run", fontsize=9)
    axes.set_title(f"{report.verdict} ({report.method})", fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
