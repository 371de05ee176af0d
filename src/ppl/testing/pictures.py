"""Reports of calibration, coverage and tails as pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl.testing.ecdf_bands import bands, below_points

if TYPE_CHECKING:
    from ppl.testing.calibration import Calibration
    from ppl.testing.coverage import Coverage
    from ppl.testing.khat import KhatReport

# Told apart by those who see colors otherwise too (Okabe and Ito, 2008).
_INSIDE, _OUTSIDE = "#0072B2", "#D55E00"
# Panels of a picture; what is wrong comes first.
_PANELS = 12


def _grid(count: int) -> tuple[Any, list[Any]]:
    """A figure with so many panels, in rows of four at most."""
    from matplotlib.figure import Figure

    columns = min(count, 4)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(0.6 + 2.8 * columns, 0.4 + 2.2 * rows), layout="constrained")
    panels = list(np.ravel(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)))
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, panels[:count]


def calibration_picture(report: Calibration) -> Any:
    """A panel for each quantity: the ranks' distribution function less the uniform one, in its bands."""
    outside = report.outside
    shown = [*outside, *(q for q in report.quantities if q not in outside)][:_PANELS]
    figure, panels = _grid(len(shown))
    each = report.rate / len(report.quantities)
    for axes, quantity in zip(panels, shown, strict=True):
        count = len(quantity.ranks)
        color = _OUTSIDE if quantity in outside else _INSIDE
        axes.set_title(f"{quantity.name}{': ' + quantity.words if quantity in outside else ''}", fontsize=8)
        axes.axhline(0.0, color="0.4", linewidth=1)
        if count:
            band = bands(count, report.draws, each)
            edges = np.concatenate([[0.0], band.points, [1.0]])
            flush = lambda counts, edges=edges, count=count: (
                np.concatenate([[0.0], counts / count, [1.0]]) - edges
            )
            axes.fill_between(edges, flush(band.lower), flush(band.upper), color="0.88")
            axes.plot(edges, flush(below_points(quantity.ranks, report.draws)), color=color)
    figure.supxlabel("rank of the truth among the draws, as a fraction", fontsize=9)
    figure.supylabel("distribution function less uniform", fontsize=9)
    figure.suptitle(f"{report.verdict} ({report.replicates} replicates)", fontsize=9)
    return figure


def coverage_picture(coverage: Coverage) -> Any:
    """A panel for each quantity: empirical less nominal coverage at every level."""
    shown = range(min(len(coverage.names), _PANELS))
    figure, panels = _grid(len(shown))
    nominal = coverage.nominal
    for axes, number in zip(panels, shown, strict=True):
        low, high = coverage.band(number, 0.01)
        found = coverage.empirical[number]
        wrong = ((found < low) | (found > high)).any()
        axes.fill_between(nominal, low - nominal, high - nominal, color="0.88")
        axes.axhline(0.0, color="0.4", linewidth=1)
        axes.plot(nominal, found - nominal, color=_OUTSIDE if wrong else _INSIDE)
        axes.set_title(coverage.names[number], fontsize=8)
    figure.supxlabel("nominal coverage of central intervals", fontsize=9)
    figure.supylabel("empirical less nominal", fontsize=9)
    figure.suptitle("gray: 99 % of what chance does, at each level", fontsize=9)
    return figure


def khat_picture(report: KhatReport) -> Any:
    """Two panels: the tail of the weights with its fit, and the tail shape of every proposal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _tail(left, report)
    _shapes(right, report)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure


def _tail(axes: Any, report: KhatReport) -> None:
    tail, khat, scale = report.weights.exceedances, report.khat, report.weights.scale
    axes.set_title(
        "tail of the weights: above its threshold, relative to the largest", fontsize=9, loc="left"
    )
    if not len(tail):
        axes.text(0.5, 0.5, report.weights.status, ha="center", transform=axes.transAxes)
        return
    survival = 1 - (np.arange(len(tail)) + 0.5) / len(tail)
    axes.plot(tail, survival, ".", color=_INSIDE, label="draws")
    base = np.maximum(1 + khat * tail / scale, 1e-12)
    fitted = base ** (-1 / khat) if khat else np.exp(-tail / scale)
    axes.plot(tail, fitted, color=_OUTSIDE, label=f"generalized Pareto, k = {khat:.2f}")
    axes.set(xscale="log", yscale="log", xlabel="weight", ylabel="fraction of the tail above")
    axes.set_ylim(bottom=survival[-1] / 2)
    axes.legend(fontsize=8, frameon=False)


def _shapes(axes: Any, report: KhatReport) -> None:
    rows = [("guide", report.weights), *report.attempts]
    for row, (_, weights) in enumerate(rows):
        good = weights.reliable is not False
        if math.isfinite(weights.khat):
            axes.plot([weights.khat], [row], "o", color=_INSIDE if good else _OUTSIDE)
        else:
            axes.annotate(weights.status, (0.0, row), fontsize=8, va="center")
    axes.axvline(report.threshold, color="0.4", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("k-hat: left of the line can be trusted", fontsize=9)
