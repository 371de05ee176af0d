"""The picture of a run: weights, bridges, bounds by Hurst index, movies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.processes.fractional_noise import bridges, hurst
from models.processes.fractional_noise.coefficients import (
    equal_weights,
    geometric_rates,
    quadratic_form,
    riemann_weights,
    spread_rates,
)


class Panels(NamedTuple):
    """What a run leaves to be drawn."""

    config: Any
    bridges: dict[Any, bridges.Fit]
    paths: dict[hurst.Lane, hurst.Fit]
    video: Any
    seeds: tuple[int, ...]


def drawn(panels: Panels) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 11), layout="constrained")
    top, below = figure.subfigures(2, 1, height_ratios=[2, 1.25])
    grid = top.add_gridspec(2, 12)
    _errors(top.add_subplot(grid[0, :4]))
    bridges_of_type_two = [(key, fit) for key, fit in panels.bridges.items() if key[0] == "II"]
    for place, ((_, index), fit) in enumerate(bridges_of_type_two[:2]):
        _bridge(top.add_subplot(grid[0, 4 + 4 * place : 8 + 4 * place]), panels, index, fit)
    width = 12 // len(panels.config.hurst.indices)
    for place, index in enumerate(panels.config.hurst.indices):
        _bounds(top.add_subplot(grid[1, width * place : width * (place + 1)]), panels, index)
    _movies(below, panels)
    return figure


def _errors(axes: Any) -> None:
    indices = np.linspace(0.05, 0.95, 37)
    rows: dict[str, list[float]] = {name: [] for name in ("II, best", "I, best", "II, Riemann", "II, equal")}
    for index in indices:
        form = quadratic_form(index, geometric_rates(5), 2.0)
        other = quadratic_form(index, spread_rates(10, 1e-4, 20.0), 2.0, "I")
        solved = lambda form: np.linalg.solve(form.a, form.b)
        rows["II, best"].append(float(form.error(solved(form))))
        rows["I, best"].append(float(other.error(solved(other))))
        rows["II, equal"].append(float(form.error(equal_weights(form))))
        at_half = abs(index - 0.5) < 1e-6
        riemann = np.nan if at_half else form.error(riemann_weights(index, geometric_rates(5)))
        rows["II, Riemann"].append(float(riemann))
    names = {"II, best": "type II, K = 5", "I, best": "type I, K = 10", "II, Riemann": "Riemann's weights",
             "II, equal": "equal weights"}  # fmt: skip
    for (name, errors), style in zip(rows.items(), ("C0-", "C4-", "C1--", "C2--"), strict=True):
        axes.plot(indices, errors, style, label=names[name])
    axes.set(yscale="log", xlabel="H", title="Relative error of the approximation", ylim=(1e-9, 30))
    axes.legend(fontsize=8, loc="lower left")


def _bridge(axes: Any, panels: Panels, index: float, fit: bridges.Fit) -> None:
    times = bridges.HORIZON * np.arange(1, len(fit.deviation) + 1) / len(fit.deviation)
    at = bridges.shown(len(fit.deviation))
    axes.plot(times, fit.draws.T, color="0.75", lw=0.6)
    for sign in (-2, 2):
        axes.plot(times, sign * fit.deviation, color="C0", label="guide, ± 2 s.d." if sign > 0 else None)
        label = "true process" if sign > 0 else None
        axes.plot(times[at], sign * fit.exact_deviation, "k.", ms=4, label=label)
    bounds = f"ELBO {fit.bound:.2f}, best {fit.best:.2f}, marginal {fit.log_marginal:.2f}"
    high = 3.5 * float(np.max(fit.deviation))
    axes.set(title=f"Bridge, H = {index}: {bounds}", xlabel="t", ylim=(-high, high))
    axes.title.set_fontsize(10)
    axes.legend(fontsize=8, loc="upper left", ncols=2)


def _bounds(axes: Any, panels: Panels, index: float) -> None:
    """The best bound and the log marginal against the prior's H, of the first seed; and what was learned."""
    config, seed = panels.config.hurst, panels.seeds[0]
    given = hurst.problem(config, config.stages[-1].euler)
    random = np.random.default_rng((seed, round(100 * index)))
    test = hurst.series(random, index, 2 * config.series)[config.series :].astype(float)
    indices = np.linspace(0.15, 0.9, 16)
    truths = hurst.truths(given)(indices, np.ones(len(indices)), np.tile(test, (len(indices), 1, 1)))
    axes.plot(indices, truths.log_marginal, "k-", lw=1, label="log marginal")
    axes.plot(indices, truths.best, "k--", lw=1, label="best control")
    for name, style in ((hurst.OURS, "C0o"), (hurst.BROWNIAN, "C1s"), (hurst.SCALED, "C3^")):
        some = [panels.paths[name, index, each] for each in panels.seeds[:1]]
        axes.plot([f.hurst for f in some], [f.bound for f in some], style, label=name)
    axes.axvline(index, color="0.6", lw=0.8, ls=":")
    high = float(np.max(truths.log_marginal))
    axes.set(title=f"Exact paths of H = {index}", xlabel="H of the prior", ylabel="nats a path",
             ylim=(high - 14.0, high + 1.5))  # fmt: skip
    axes.legend(fontsize=8, loc="lower center", ncols=2)


def _movies(figure: Any, panels: Panels) -> None:
    """A movie that was not trained on, and a draw of each guide; beyond what is seen, of the prior alone."""
    frames = panels.video.test.frames
    seen = panels.config.video.sizes.frames
    shown = list(range(0, seen, max(1, seen // 8))) + list(range(seen, frames.shape[1], 2))
    rows = [("movie", frames[0])]
    rows += [(name, panels.video.fits[name, panels.seeds[0]].pictures[0]) for name in ("MA-fBM", "BM")]
    axes = figure.subplots(3, len(shown))
    for (name, images), row in zip(rows, axes, strict=True):
        for each, frame in zip(row, shown, strict=True):
            each.imshow(images[frame], cmap="gray", vmin=0, vmax=1)
            each.set(xticks=[], yticks=[])
            for spine in each.spines.values():
                spine.set_color("C1" if frame >= seen else "0.7")
        row[0].set_ylabel(name)
    for each, frame in zip(axes[0], shown, strict=True):
        each.set_title(f"{frame + 1}" + (" *" if frame >= seen else ""), fontsize=9)
    title = "A digit that was not trained on: one draw of each guide; frames with * are of the prior alone"
    figure.suptitle(title, fontsize=10)
