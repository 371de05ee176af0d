"""The picture of `cone.py`: the exact posterior, what each guide draws, and how each objective rose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cone_exact
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

COLORS = ("#c2452d", "#b8860b", "#7a7a7a", "#1f6fb2")
LIMIT = 3.4


def picture(fits: Sequence[Any], draws: Sequence[dict[str, np.ndarray]], evidence: float, path: Path) -> Path:
    """Draw `fits`, with draws `{"x", "y"}` of each one's guide, and save the picture."""
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = plt.figure(figsize=(12.5, 6.4), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=(1, 0.95))
        panels = top.subplots(1, len(fits) + 1, sharex=True, sharey=True)
        _posterior(panels[0], evidence)
        for panel, fit, points, color in zip(panels[1:], fits, draws, COLORS, strict=True):
            _guide(panel, fit, points, color)
        _curves(bottom.subplots(), fits, evidence)
        figure.savefig(path, dpi=150)
        plt.close(figure)
    return path


def _ring(axes: Any, color: str) -> None:
    t = np.linspace(0, 2 * np.pi, 400)
    axes.plot(np.sqrt(5) * np.cos(t), np.sqrt(5) * np.sin(t), color=color, linewidth=0.6)
    axes.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal", xticks=(-2, 0, 2), yticks=(-2, 0, 2))


def _posterior(axes: Any, evidence: float) -> None:
    x = np.linspace(-LIMIT, LIMIT, 800)
    density = np.exp(cone_exact.log_joint(x, x[:, None]) - evidence)
    axes.imshow(density, extent=(-LIMIT, LIMIT, -LIMIT, LIMIT), origin="lower", cmap="Greys", aspect="equal")
    axes.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xlabel="x", ylabel="y")
    axes.set_title("exact posterior density", fontsize=9)


def _guide(axes: Any, fit: Any, points: dict[str, np.ndarray], color: str) -> None:
    _ring(axes, "#000000")
    axes.scatter(points["x"], points["y"], s=2, color=color, alpha=0.35, linewidths=0, rasterized=True)
    axes.set_title(f"{fit.case.name}\n{fit.mean:.3f} nats", fontsize=9, color=color)
    axes.set_xlabel("x")


def _smooth(history: np.ndarray, width: int = 25) -> tuple[np.ndarray, np.ndarray]:
    rows = len(history) // width
    means = history[: rows * width].reshape(rows, width).mean(1)
    return (np.arange(rows) + 0.5) * width, means


def _curves(axes: Any, fits: Sequence[Any], evidence: float) -> None:
    steps = max(len(fit.history) for fit in fits)
    for fit, color in zip(fits, COLORS, strict=True):
        axes.plot(*_smooth(fit.history), color=color, linewidth=1.4)
        axes.axhline(fit.optimum, color=color, linewidth=0.7, linestyle=(0, (5, 3)))
        axes.annotate(
            fit.case.name, (steps, fit.optimum), xytext=(6, 0), textcoords="offset points",
            color=color, va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set(xlim=(0, steps), ylim=(-14.5, evidence + 0.8), xlabel="step of Adam, 64 draws each")
    axes.set_ylabel("objective, nats")
    axes.set_title(
        f"Each objective (mean of 25 steps) and its optimum (dashed); log evidence {evidence:.3f}", fontsize=9
    )
