"""Canvases with none, one or two of scikit-learn's handwritten digits, which do not overlap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

SIDE = 24
"""Of a canvas, in pixels. A digit takes a third of it, as in the paper: here 8, as many as its scan has."""
MOST = 2
"""Objects on a canvas, at most."""
TRAIN_DIGITS = 1400
"""Of 1,797. The others are on test canvases only."""


class Canvases(NamedTuple):
    """Images, and what is on them.

    Attributes:
        images: of ink between 0 and 1, shape `(N, side, side)`.
        counts: the number of digits on each, shape `(N,)`.
        boxes: of their ink, as first and last row and column, half open; shape `(N, 2, 4)`; zeros for none.
        digits: which scans they are, shape `(N, 2)`; -1 for none.
    """

    images: np.ndarray
    counts: np.ndarray
    boxes: np.ndarray
    digits: np.ndarray


def scans() -> np.ndarray:
    """The digits as arrays of ink between 0 and 1, shape `(1797, 8, 8)`."""
    return load_digits().images / 16.0


def split(train: int = 4096, test: int = 1000, seed: int = 0, side: int = SIDE) -> tuple[Canvases, Canvases]:
    """Canvases to train on and to test on, of disjoint digits."""
    order = np.random.default_rng(seed).permutation(len(scans()))
    first, rest = order[:TRAIN_DIGITS], order[TRAIN_DIGITS:]
    return canvases(train, first, seed + 1, side), canvases(test, rest, seed + 2, side)


def canvases(number: int, digits: np.ndarray, seed: int, side: int = SIDE) -> Canvases:
    """Canvases of these digits. Counts are uniform on 0, 1, 2; one whose digits overlap is drawn again."""
    random, images = np.random.default_rng(seed), scans()
    counts = random.integers(0, MOST + 1, number)
    made = [canvas(images, random.choice(digits, count), random, side) for count in counts]
    return Canvases(np.stack([m[0] for m in made]), counts, *(np.stack([m[i] for m in made]) for i in (1, 2)))


def canvas(
    images: np.ndarray, chosen: np.ndarray, random: np.random.Generator, side: int = SIDE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image with these digits at random sizes and places, their boxes, and the digits, padded."""
    while True:
        image, boxes = np.zeros((side, side)), np.zeros((MOST, 4), int)
        for i, digit in enumerate(chosen):
            drawn = resized(images[digit], random, side // 3)
            top, left = random.integers(0, side - len(drawn) + 1, 2)
            image[top : top + len(drawn), left : left + len(drawn)] += drawn
            boxes[i] = ink(drawn) + np.array([top, top, left, left])
        if len(chosen) < 2 or apart(*boxes):
            padded = np.concatenate([chosen, np.full(MOST - len(chosen), -1)]).astype(int)
            return image.astype(np.float32), boxes, padded


def resized(scan: np.ndarray, random: np.random.Generator, pixels: int = SIDE // 3) -> np.ndarray:
    """The scan, bilinearly at so many pixels, an eighth of them less or more."""
    least, most = round(7 / 8 * pixels), round(9 / 8 * pixels)
    width = int(np.clip(round(pixels / (1 + 0.08 * random.standard_normal())), least, most))
    return np.clip(zoom(scan, width / len(scan), order=1), 0.0, 1.0)


def ink(image: np.ndarray) -> np.ndarray:
    """The box around all ink: first and last row and column, half open."""
    rows, columns = (np.flatnonzero(image.max(axis)) for axis in (1, 0))
    return np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])


def apart(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two boxes share no pixel."""
    return bool(one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2])
