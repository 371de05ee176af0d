"""Moving digits: one real digit bounces in a box, and leaves a wall with a velocity drawn anew."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

CANVAS, DIGIT = 16, 8


class Movies(NamedTuple):
    """Frames in [0, 1], of shape (movies, time, CANVAS, CANVAS); places of the digit's corner, in pixels."""

    frames: np.ndarray
    places: np.ndarray


def trajectories(random: Any, number: int, length: int) -> np.ndarray:
    """Straight, at 0.4 to 1.6 pixels a frame, until a wall is met; then away from it at another velocity."""
    most = CANVAS - DIGIT
    place = random.uniform(0, most, (number, 2))
    velocity = _velocities(random, number)
    found = np.empty((number, length, 2), np.float32)
    for frame in range(length):
        found[:, frame] = place
        ahead = place + velocity
        low, high = ahead < 0, ahead > most
        fresh = _velocities(random, number)
        inward = np.where(low, np.abs(fresh), np.where(high, -np.abs(fresh), fresh))
        velocity = np.where((low | high).any(1, keepdims=True), inward, velocity)
        place = np.clip(ahead, 0, most)
    return found


def _velocities(random: Any, number: int) -> np.ndarray:
    speed, angle = random.uniform(0.4, 1.6, (number, 1)), random.uniform(0, 2 * np.pi, (number, 1))
    return speed * np.concatenate([np.cos(angle), np.sin(angle)], 1)


def rendered(digits: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The digits at these corners, interpolated linearly."""
    padded = np.zeros((len(digits), CANVAS + 2, CANVAS + 2), np.float32)
    padded[:, :DIGIT, :DIGIT] = digits
    whole, part = np.divmod(places, 1.0)
    frames = np.zeros((*places.shape[:2], CANVAS, CANVAS), np.float32)
    for movie, frame in np.ndindex(places.shape[:2]):
        (row, column), (down, right) = whole[movie, frame].astype(int), part[movie, frame]
        image = padded[movie]
        image = (1 - down) * image + down * np.roll(image, 1, 0)
        image = (1 - right) * image + right * np.roll(image, 1, 1)
        frames[movie, frame] = np.roll(image, (row, column), (0, 1))[:CANVAS, :CANVAS]
    return frames


def movies(seed: int, train: int, test: int, length: int) -> tuple[Movies, Movies]:
    """Training and test movies, which share no image of a digit."""
    from sklearn.datasets import load_digits

    random = np.random.default_rng(seed)
    images = (load_digits().images / 16.0).astype(np.float32)
    images = images[random.permutation(len(images))]
    first, second = np.split(images, [1400])

    def made(some: np.ndarray, number: int) -> Movies:
        places = trajectories(random, number, length)
        return Movies(rendered(some[random.integers(0, len(some), number)], places), places)

    return made(first, train), made(second, test)
