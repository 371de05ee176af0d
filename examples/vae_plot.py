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


def _tiles(images: Any, columns: int) -> np.ndarray:
    """Images (count, height, 8) side by side, a pixel of white around each."""
    images = np.clip(np.asarray(images), 0, LEVELS)
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows = framed.reshape(-1, columns, *framed.shape[1:]).transpose(0, 2, 1, 3)
    return rows.reshape(rows.shape[0] * rows.shape[1], -1)


def _show(axes: Any, images: Any, columns: int, title: str) -> None:
    axes.imshow(_tiles(images, columns), cmap="Greys", vmin=0, vmax=LEVELS, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def image_picture(images: Any, reconstructions: Any, drawn: Any, gaussian: Any, path: Path) -> Path:
    """Held-out images above their reconstructions; below, draws of the autoencoder and of the Gaussian."""
    square = lambda rows: np.asarray(rows).reshape(-1, 8, 8)
    above, below, gap = square(images[:32]), square(reconstructions[:32]), np.zeros((32, 1, 8))
    pairs = np.concatenate([above, gap, below, gap, gap], axis=1)
    figure = plt.figure(figsize=(9.6, 7.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.6))
    _show(top.subplots(), pairs, 16, "held-out digits, and below each its reconstruction")
    left, right = bottom.subplots(1, 2)
    _show(left, square(drawn), 6, "drawn from the autoencoder")
    _show(right, square(gaussian), 6, "drawn from the PCA Gaussian")
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
