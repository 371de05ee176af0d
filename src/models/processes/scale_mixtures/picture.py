"""The figure of a run."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from models.processes.scale_mixtures import networks, regression
from models.processes.scale_mixtures.conjugate import Scale, context, interpolated, predictive
from models.processes.scale_mixtures.tasks import GAUSSIAN, MIXTURE
from models.processes.scale_mixtures.windows import LENGTH, times, windows

COLORS = {
    "Gaussian process": "tab:gray",
    "mixture, collapsed": "tab:blue",
    "mixture of Burr XII": "tab:orange",
}
COLUMNS = ("in distribution", "late", "late / 3", "late x 3")


class Panels(NamedTuple):
    """What a run leaves to be drawn; `fitted` by method, of the first fold of the first seed."""

    figures: Any
    by_width: dict[int, Any]
    draws: Any
    law: Scale
    fitted: dict[str, Any]


def drawn(panels: Panels) -> Figure:
    figure = Figure(figsize=(15, 7), layout="constrained")
    above, below = figure.subfigures(2, 1)
    densities, widths, bars, shares = above.subplots(1, 4)
    _densities(densities, panels.law, panels.draws, max(panels.by_width))
    _widths(widths, panels.by_width)
    _bars(bars, panels.figures)
    _shares(shares, panels.figures)
    axes = below.subplots(1, 3)
    for axis, factor in zip(axes, (1 / 3, 1.0, 3.0), strict=True):
        _window(axis, factor, panels.fitted)
    axes[0].legend(loc="upper left", fontsize=8, ncols=2)
    return figure


def _densities(axis: Any, law: Scale, draws: Any, width: int) -> None:
    grid, edges = np.linspace(-8, 8, 400), np.linspace(-8, 8, 41)
    lines = (("shared", "t", "one scale for all weights", "tab:blue"),
             ("each", "normal", "a scale for each weight", "tab:green"))  # fmt: skip
    for kind, limit, label, color in lines:
        heights, _ = np.histogram(draws[kind], edges, density=True)
        axis.plot((edges[1:] + edges[:-1]) / 2, heights, ".", color=color, label=label)
        axis.plot(grid, networks.limits(law)[limit].pdf(grid), color=color, lw=1, label=f"{limit} limit")
    axis.set(title=f"Outputs of networks of width {width}", xlabel="f(x)", ylabel="density", yscale="log")
    axis.set_ylim(1e-4, 1)
    axis.legend(fontsize=7)


def _widths(axis: Any, by_width: dict[int, Any]) -> None:
    lines = {
        "shared, t": ("tab:blue", "one scale, to t"), "each, t": ("tab:green", "a scale each, to t"),
        "each, normal": ("tab:olive", "a scale each, to normal"),
    }  # fmt: skip
    for key, (color, label) in lines.items():
        found = [np.mean([row[key] for row in rows]) for rows in by_width.values()]
        axis.plot(list(by_width), found, "o-", color=color, label=label)
    axis.set(
        title="Distance to the limit",
        xlabel="width",
        ylabel="Kolmogorov's distance",
        xscale="log",
        yscale="log",
    )
    axis.set_xticks(list(by_width), [str(width) for width in by_width])
    axis.legend(fontsize=8)


def _bars(axis: Any, figures: Any) -> None:
    for place, (name, color) in enumerate(COLORS.items()):
        if name not in figures:
            continue
        means = [np.mean(figures[name][column]) for column in COLUMNS]
        deviations = [np.std(figures[name][column]) for column in COLUMNS]
        axis.bar(np.arange(4) + 0.27 * (place - 1), means, 0.25, yerr=deviations, color=color, label=name)
    axis.set_xticks(range(4), COLUMNS, fontsize=8)
    axis.set(title="Macroeconomic windows, given any 6 or 9", ylabel="nats a quarter (more is better)")
    axis.legend(fontsize=8)


def _shares(axis: Any, figures: Any) -> None:
    """Effective draws of the scale against the number of observations."""
    before = "effective share: "
    for name in (name for name in figures if name.startswith(before)):
        numbers = [int(column.removeprefix("n = ")) for column in figures[name]]
        style = ("C0" if "inverse" in name else "C1") + ("o--" if "the prior" in name else "o-")
        means = [np.mean(each) for each in figures[name].values()]
        axis.plot(numbers, means, style.replace("o-", "s:") if "both" in name else style, ms=4,
                  label=name.removeprefix(before))  # fmt: skip
    axis.set(
        title="Weighted draws of the scale", xlabel="observations", ylabel="effective share", ylim=(0, 1.05)
    )
    if axis.lines:
        axis.legend(fontsize=7)


def _window(axis: Any, factor: float, fitted: dict[str, Any], given: int = 8) -> None:
    """One window at a scale, its last quarters predicted by both processes, as they were fitted."""
    y = windows()[1][:1] * factor
    gaussian, params = fitted[GAUSSIAN], fitted[MIXTURE]
    covariance = regression.kernel(params, jnp.asarray(times()))
    seen = context(covariance[:given, :given], jnp.asarray(y[:, :given]))
    cross, variance = covariance[:given, given:], jnp.diag(covariance)[given:]
    t = predictive(regression.prior_scale(params), seen, cross, variance)
    mean, spread = interpolated(seen, cross, variance)
    places, ahead = np.arange(LENGTH), np.arange(given, LENGTH)
    ends = {
        "Gaussian process": ("tab:gray", 1.96 * np.sqrt(jnp.exp(gaussian["scale"]) * spread)),
        "scale mixture": ("tab:blue", stats.t.ppf(0.975, float(t.freedoms)) * np.sqrt(t.variance[0])),
    }
    for label, (color, half) in ends.items():
        axis.fill_between(
            ahead, mean[0] - half, mean[0] + half, color=color, alpha=0.35, label=f"{label}, 95 %"
        )
    axis.plot(ahead, mean[0], color="black", lw=1, label="mean of both")
    axis.plot(places[:given], y[0, :given], "ko", ms=4)
    axis.plot(ahead, y[0, given:], "k^", mfc="white", ms=5, label="to be predicted")
    axis.set(
        title=f"A window of GDP growth x {factor:.2g}",
        xlabel="quarter",
        ylim=(-9, 9) if factor > 1 else (-4, 4),
    )
