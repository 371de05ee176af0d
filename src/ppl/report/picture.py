"""A variance report as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ppl.report.compare import compare

if TYPE_CHECKING:
    from ppl.report.variance import VarianceReport

# Told apart by those who see colors otherwise too (Okabe and Ito, 2008), and by their markers.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vP*X<>"


def picture(report: VarianceReport) -> Any:
    """Two panels with a row for each choice: its part of the variance, and what alternatives would cost."""
    from matplotlib.figure import Figure

    rows = len(report.choices) + 1
    figure = Figure(figsize=(11, 1.8 + 0.5 * rows), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 3))
    _parts(left, report)
    _costs(right, report)
    labels = [f"{choice.address}\n{choice.estimator}" for choice in report.choices]
    left.set_yticks(range(rows), [*labels, "(direct)"], fontsize=8)
    left.set_ylim(rows - 0.5, -0.5)
    return figure


def _parts(axes: Any, report: VarianceReport) -> None:
    parts = [*(choice.part for choice in report.choices), report.direct]
    axes.barh(
        range(len(parts)), [part.variance for part in parts], xerr=[2 * part.error for part in parts],
        color="0.75", height=0.6, error_kw={"elinewidth": 1, "capsize": 2},
    )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_xlabel("variance", fontsize=9)
    axes.set_title(
        f"parts of the gradient, whose variance is {report.gradient.variance:.3g}", fontsize=9, loc="left"
    )
    axes.spines[["top", "right"]].set_visible(False)


def _costs(axes: Any, report: VarianceReport) -> None:
    """A marker for each estimator that was measured, with two standard errors to each side."""
    measured = [
        (row, other.name, compare(other.measurement, report.gradient))
        for row, choice in enumerate(report.choices)
        for other in choice.alternatives
        if other.measurement is not None and np.isfinite(other.measurement.variance)
    ]
    names = list(dict.fromkeys(name for _, name, _ in measured))
    # What has no variance left stands at the left end.
    least = min([1.0, *(ratio.cost for *_, ratio in measured if ratio.cost)]) / 4
    for number, name in enumerate(names):
        mine = [(row, ratio) for row, other, ratio in measured if other == name]
        costs = np.asarray([ratio.cost or least for _, ratio in mine])
        errors = np.exp([2 * ratio.error if ratio.cost else 0.0 for _, ratio in mine])
        heights = [row + 0.5 * ((number + 0.5) / len(names) - 0.5) for row, _ in mine]
        axes.errorbar(
            costs, heights, xerr=[costs - costs / errors, costs * errors - costs], label=name,
            color=_COLORS[number % len(_COLORS)], marker=_MARKERS[number % len(_MARKERS)], linestyle="none",
        )  # fmt: skip
        for cost, height, (_, ratio) in zip(costs, heights, mine, strict=True):
            if not ratio.cost:
                axes.annotate("none left", (cost, height), (6, -3), textcoords="offset points", fontsize=7)
    for row in range(len(report.choices) + 1):
        axes.axhline(row + 0.5, color="0.92", linewidth=1, zorder=0)
    axes.axvline(1.0, color="0.4", linewidth=1, linestyle="--", zorder=0)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
    axes.set_xlabel("relative to the present: left of the line is better", fontsize=9)
    axes.set_title("variance × time with another estimator", fontsize=9, loc="left")
    axes.tick_params(left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if names:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
