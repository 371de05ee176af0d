"""The pictures of `vae.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA

LEVELS = 17


def _grid(rows: Any, columns: int) -> np.ndarray:
    """Images of 64 pixels as one array, with white lines between them."""
    images = np.clip(np.asarray(rows), 0, LEVELS).reshape(-1, columns, 8, 8)
    framed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    return framed.transpose(0, 2, 1, 3).reshape(len(images) * 10, columns * 10)


def _show(axes: Any, rows: Any, columns: int, title: str) -> None:
    axes.imshow(_grid(rows, columns), cmap="Greys", vmin=0, vmax=LEVELS, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def image_picture(images: Any, reconstructions: Any, drawn: Any, gaussian: Any, path: Path) -> Path:
    """Held-out images above their reconstructions; below, draws of the autoencoder and of the Gaussian."""
    figure = plt.figure(figsize=(9.6, 8.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    pairs = np.stack([np.asarray(images[:36]), np.asarray(reconstructions[:36])], 1).reshape(3, 12, 2, 64)
    _show(
        top.subplots(), pairs.transpose(0, 2, 1, 3).reshape(-1, 64), 12,
        "held-out digits, each above its reconstruction",
    )  # fmt: skip
    left, right = bottom.subplots(1, 2)
    _show(left, drawn, 6, "drawn from the autoencoder")
    _show(right, gaussian, 6, "drawn from the PCA Gaussian")
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def latent_picture(codes: Any, labels: np.ndarray, path: Path) -> Path:
    """Posterior means of the held-out digits on their two principal axes."""
    plane = PCA(2).fit_transform(np.asarray(codes))
    figure, axes = plt.subplots(figsize=(6.4, 6.0), layout="constrained")
    for digit, color in enumerate(plt.colormaps["tab10"].colors):
        for x, y in plane[labels == digit]:
            axes.text(x, y, str(digit), color=color, fontsize=9, ha="center", va="center", weight="bold")
    low, high = plane.min(0) - 0.3, plane.max(0) + 0.3
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="first axis", ylabel="second axis")
    axes.set_title("latent means of held-out digits, two principal axes", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
