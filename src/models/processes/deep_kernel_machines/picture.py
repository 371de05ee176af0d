"""The figure of a run: Gram matrices of the last layer, and what learning them gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure


def drawn(figures: Any, grams: Any) -> Figure:
    figure = Figure(figsize=(14, 6.5), layout="constrained")
    above, (scores, distances, bounds, aligned, degenerate) = figure.subplots(2, 5)
    for axis, (name, gram) in zip(above, grams.items(), strict=True):
        scale = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
        shown = axis.imshow(gram / scale, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
        axis.set(title=name, xticks=[], yticks=[])
    figure.colorbar(shown, ax=above[-1], label="correlation of features")
    above[0].set_ylabel("digits, ordered by label")
    names = list(grams)
    _points(scores, figures, names, "test LL", "Test log-likelihood")
    _points(aligned, figures, names, "alignment", "Alignment with the labels")
    _points(degenerate, figures, names, "eigenvalue", "Smallest eigenvalue of the last Gram")
    degenerate.set_yscale("log")
    _widths(distances, bounds, figures)
    return figure


def _points(axis: Any, figures: Any, names: list[str], column: str, title: str) -> None:
    for place, name in enumerate(names):
        values = figures[name][column]
        axis.plot([place] * len(values), values, "o", color="tab:blue", ms=4, alpha=0.7)
        axis.plot([place - 0.25, place + 0.25], [np.mean(values)] * 2, color="black")
    axis.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=7)
    axis.set_title(title, fontsize=10)


def _widths(distances: Any, bounds: Any, figures: Any) -> None:
    rows = {int(name.split()[1]): row for name, row in figures.items() if name.startswith("width ")}
    widths = list(rows)
    if not widths:
        return
    mean = lambda column: np.array([np.mean(row[column]) for row in rows.values()])
    posterior = lambda column: np.array([np.mean(figures[f"posterior, width {n}"][column]) for n in widths])
    distances.loglog(widths, posterior("draw, to limit"), "o-", label="posterior, a draw")
    distances.loglog(widths, posterior("mean, to limit"), "o--", label="posterior, the mean")
    distances.loglog(widths, posterior("mean, to NNGP"), "x-", color="0.6", label="the mean, to the NNGP")
    distances.loglog(widths, mean("guide, to limit"), "s-", label="the trained guide")
    first = posterior("draw, to limit")[0]
    distances.loglog(widths, first * (np.array(widths) / widths[0]) ** -0.5, "k:", label="slope -1/2")
    distances.set_xlabel("width N")
    distances.set_title("Distance to the limit's Grams", fontsize=10)
    distances.set_ylim(bottom=1e-3)  # room for the legend
    distances.legend(fontsize=7, loc="lower left")
    bounds.semilogx(widths, mean("ELBO / N"), "o-", label="ELBO / N")
    bounds.axhline(mean("L")[0], color="black", ls=":", label="L")
    bounds.set_xlabel("width N")
    bounds.set_title("The bound of finite networks", fontsize=10)
    bounds.legend(fontsize=7)
    for axis in (distances, bounds):
        axis.set_xticks(widths, [str(width) for width in widths])
        axis.minorticks_off()
