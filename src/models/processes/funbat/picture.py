"""The picture of a run: carbon dioxide, the learned functions, the bounds, the photograph."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.processes.funbat.data import Dataset, Photograph, first_function, second_function

OURS, OTHER = "C0", "C1"


class Panels(NamedTuple):
    """What a run leaves to be drawn; the decompositions are `paper.Trained`."""

    carbon: Dataset
    carbon_ours: Any
    carbon_discrete: Any
    functions: Dataset
    conjugate: Any
    generic: Any
    photo: Photograph
    photo_ours: Any
    near: Dataset
    photo_discrete: Any


def draw(panels: Panels) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 10), layout="constrained")
    grid = figure.add_gridspec(3, 12)
    carbon_panel(figure.add_subplot(grid[0, :8]), panels)
    bound_panel(figure.add_subplot(grid[0, 8:]), panels)
    truths = (
        (first_function, r"$\sin^2(2\pi t)\cos(2\pi t)$"),
        (second_function, r"$e^{-2t}\sin(1.5\pi t)$"),
    )
    for k, (truth, name) in enumerate(truths):
        function_panel(figure.add_subplot(grid[1, 6 * k : 6 * k + 6]), panels, k, truth, name)
    photograph_panels([figure.add_subplot(grid[2, 3 * k : 3 * k + 3]) for k in range(4)], panels)
    return figure


def carbon_panel(axes: Any, panels: Panels) -> None:
    """A year of which nothing was seen."""
    data = panels.carbon
    rows = data.tests["unseen year"].index[:, 0]
    year = int(np.unique(rows)[len(np.unique(rows)) // 2])
    days = np.arange(len(data.times[1]))
    ppm = lambda values: values * data.scale + data.center
    index = np.stack([np.full(len(days), year), days], 1)
    at = 1 + 365 * data.times[1]
    for trained, color, name in (
        (panels.carbon_discrete, OTHER, "discrete"),
        (panels.carbon_ours, OURS, "FunBaT"),
    ):
        mean, spread = trained.predict(index)
        axes.plot(at, ppm(mean), color=color, label=name, lw=1.0 if color == OTHER else 2.0, alpha=0.9)
        if color == OURS:
            low, high = ppm(mean - 2 * spread), ppm(mean + 2 * spread)
            axes.fill_between(at, low, high, color=color, alpha=0.25, lw=0, label="FunBaT ± 2 s.d.")
    here = data.tests["unseen year"]
    here = here.index[here.index[:, 0] == year], here.value[here.index[:, 0] == year]
    axes.plot(at[here[0][:, 1]], ppm(here[1]), "k.", ms=5, label="held out")
    name = round(1958 + 43 * data.times[0][year])
    axes.set(
        title=f"CO$_2$ in {name}, a year of which nothing was seen", xlabel="day of the year", ylabel="ppm"
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.2 * (high - low), high)
    axes.legend(fontsize=8, ncols=4, loc="lower center")


def bound_panel(axes: Any, panels: Panels) -> None:
    """The ELBO against the share of the run, from where both are in sight of the end."""
    best = panels.conjugate.fit.elbos[-1]
    for trained, color, name in (
        (panels.generic, "C2", f"generic, {len(panels.generic.fit.elbos)} steps"),
        (panels.conjugate, OURS, f"conjugate, {len(panels.conjugate.fit.elbos)} sweeps"),
    ):
        axes.plot(np.linspace(0, 1, len(trained.fit.elbos)), trained.fit.elbos, color=color, label=name, lw=1)
    axes.axhline(best, color="k", lw=0.5, ls=":")
    axes.set(
        title="ELBO, authors' functions",
        xlabel="share of the run",
        ylim=(best - 0.6 * abs(best), best * 1.05),
    )
    axes.legend(fontsize=8, loc="lower right")


def function_panel(axes: Any, panels: Panels, mode: int, truth: Any, name: str) -> None:
    """A learned function, scaled to the true one, since only their product is determined."""
    times = panels.functions.times[mode]
    factor = panels.conjugate.fit.beliefs.factors[mode]
    mean = np.asarray(factor.mean)[:, 0]
    spread = np.sqrt(np.maximum(np.asarray(factor.second)[:, 0, 0] - mean**2, 0.0))
    exact = truth(times)
    scale = mean @ exact / (mean @ mean)
    axes.plot(times, exact, "k--", lw=1, label=name)
    axes.plot(times, scale * mean, color=OURS, lw=1.5, label="learned, scaled")
    width = 2 * np.abs(scale) * spread
    axes.fill_between(times, scale * mean - width, scale * mean + width, color=OURS, alpha=0.25, lw=0)
    seen = times[np.unique(panels.functions.train.index[:, mode])]
    axes.plot(seen, np.full(len(seen), axes.get_ylim()[0]), "|", color="0.4", ms=8, label="indices seen")
    axes.set(title=f"mode {mode + 1} of the authors' functions", xlabel="index")
    axes.legend(fontsize=8)


def photograph_panels(axes: Any, panels: Panels) -> None:
    photo, data = panels.photo, panels.photo.data
    shown = lambda trained, of: np.clip(
        (trained.predict(of.tests["pixels"].index)[0] * data.scale + data.center).reshape(photo.pixels.shape),
        0,
        1,
    )
    error = lambda image: np.sqrt(np.mean((image - photo.pixels) ** 2))
    ours, other = shown(panels.photo_ours, data), shown(panels.photo_discrete, panels.near)
    places, half = photo.places, len(photo.places)
    colors = np.clip(data.train.value.reshape(3, half).T * data.scale + data.center, 0, 1)
    axes[0].imshow(photo.pixels)
    axes[0].set_title("photograph")
    axes[1].scatter(places[:, 1], places[:, 0], c=colors, s=9, marker="s", lw=0)
    last = len(photo.pixels) - 0.5
    axes[1].set(xlim=(-0.5, last), ylim=(last, -0.5), aspect="equal", title=f"read at {half} places")
    axes[2].imshow(ours)
    axes[2].set_title(f"FunBaT, error {error(ours):.3f}")
    axes[3].imshow(other)
    axes[3].set_title(f"discrete, binned, {error(other):.3f}")
    for each in axes:
        each.set(xticks=[], yticks=[])
