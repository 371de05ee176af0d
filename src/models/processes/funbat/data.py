"""The three data sets: carbon dioxide, two functions of the authors, and a photograph."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.processes.funbat.statistics import Entries

# Of the crop of the photograph: its center, so that nothing was chosen.
CORNER = (224, 224)


class Dataset(NamedTuple):
    """A tensor with continuous indices, some entries of which are seen.

    Attributes:
        times: of each mode, the sorted distinct indices in [0, 1], of all entries.
        train: what is seen, standardized.
        tests: by name, what is held out.
        center, scale: of the standardization.
    """

    times: tuple[np.ndarray, ...]
    train: Entries
    tests: dict[str, Entries]
    center: float = 0.0
    scale: float = 1.0


def merged(points: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The sorted distinct indices of each mode, and the rows in them, of points of shape (entries, modes)."""
    pairs = [np.unique(column, return_inverse=True) for column in points.T]
    return tuple(times for times, _ in pairs), np.stack([rows for _, rows in pairs], 1)


def carbon_dioxide(seed: int, every: int = 1) -> Dataset:
    """Mauna Loa's weekly concentrations as y(year, day of the year): 44 years, 2,225 entries.

    A quarter of the days is never seen, nor are six of the inner years; of the rest 30 % is held out at
    random. `every` thins the weeks, for a quick run.
    """
    from statsmodels.datasets import co2

    series = co2.load_pandas().data["co2"].dropna().iloc[::every]
    years, days = series.index.year.to_numpy(), series.index.day_of_year.to_numpy()
    random = np.random.default_rng(seed)
    no_day = np.isin(days, random.choice(np.unique(days), len(np.unique(days)) // 4, replace=False))
    no_year = np.isin(years, random.choice(np.unique(years)[1:-1], 6, replace=False))
    seen = ~no_day & ~no_year & (random.random(len(series)) > 0.3)
    points = np.stack([(years - 1958) / (2001 - 1958), (days - 1) / 365], 1)
    values = series.to_numpy()
    center, scale = values[seen].mean(), values[seen].std()
    times, rows = merged(points)
    part = lambda mask: Entries(rows[mask], (values[mask] - center) / scale)
    rest = ~seen & ~no_day & ~no_year
    tests = {
        "unseen day": part(no_day & ~no_year),
        "unseen year": part(no_year & ~no_day),
        "seen": part(rest),
    }
    return Dataset(times, part(seen), tests, center, scale)


def first_function(t: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * t) ** 2 * np.cos(2 * np.pi * t)


def second_function(t: np.ndarray) -> np.ndarray:
    return np.exp(-2 * t) * np.sin(1.5 * np.pi * t)


def synthetic(seed: int, noise: float = 0.02, blocks: int = 6, side: int = 15, grid: int = 51) -> Dataset:
    """y = f1(i1) f5(i2) in six blocks of a random 15 x 15 grid; held out is the surface on a grid."""
    random = np.random.default_rng(seed)
    ends = np.round(random.random((blocks, 2, side)), 6)
    points = np.concatenate(
        [np.stack(np.meshgrid(*block, indexing="ij"), -1).reshape(-1, 2) for block in ends]
    )
    even = np.linspace(0.0, 1.0, grid)
    everywhere = np.stack(np.meshgrid(even, even, indexing="ij"), -1).reshape(-1, 2)
    truth = lambda at: first_function(at[:, 0]) * second_function(at[:, 1])
    values = truth(points) + noise * random.standard_normal(len(points))
    times, rows = merged(np.concatenate([points, everywhere]))
    train, test = rows[: len(points)], rows[len(points) :]
    return Dataset(times, Entries(train, values), {"surface": Entries(test, truth(everywhere))})


class Photograph(NamedTuple):
    """A picture, and where it was read.

    Attributes:
        data: mode row, column, channel; the test set is every pixel.
        pixels: the picture, of shape (side, side, 3), in [0, 1].
        places: where all three channels were read, in pixels; of shape (places, 2).
    """

    data: Dataset
    pixels: np.ndarray
    places: np.ndarray


def photograph(seed: int, side: int = 64, share: float = 0.15) -> Photograph:
    """A crop of scikit-image's astronaut, read at random places between its pixels, bilinearly."""
    import skimage
    from matplotlib.image import imread
    from scipy.ndimage import map_coordinates

    whole = imread(Path(skimage.__file__).parent / "data" / "astronaut.png")[..., :3].astype(float)
    pixels = whole[CORNER[0] :, CORNER[1] :][:side, :side]
    random = np.random.default_rng(seed)
    places = np.round(random.uniform(0.0, side - 1.0, (int(share * side**2), 2)), 5)
    read = np.stack([map_coordinates(pixels[..., c], places.T, order=1) for c in range(3)], -1)
    channels = np.arange(3.0)
    seen = np.concatenate([np.insert(places, 2, c, axis=1) for c in channels])
    every = np.stack(np.meshgrid(np.arange(side), np.arange(side), channels, indexing="ij"), -1).reshape(
        -1, 3
    )
    times, rows = merged(np.concatenate([seen, every]))
    center, scale = read.mean(), read.std()
    train = Entries(rows[: len(seen)], (read.T.ravel() - center) / scale)
    test = Entries(rows[len(seen) :], (pixels.ravel() - center) / scale)
    unit = (times[0] / (side - 1), times[1] / (side - 1), times[2] / 2)
    return Photograph(Dataset(unit, train, {"pixels": test}, center, scale), pixels, places)


def binned(data: Dataset, sizes: tuple[int, ...]) -> Dataset:
    """Each index moved to the nearest of a regular grid: what a discrete decomposition needs."""
    nearest = [np.rint(times * (size - 1)).astype(int) for times, size in zip(data.times, sizes, strict=True)]
    moved = lambda part: Entries(
        np.stack([to[column] for to, column in zip(nearest, part.index.T, strict=True)], 1), part.value
    )
    grids = tuple(np.linspace(0.0, 1.0, size) for size in sizes)
    tests = {name: moved(part) for name, part in data.tests.items()}
    return data._replace(times=grids, train=moved(data.train), tests=tests)
