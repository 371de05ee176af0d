"""Attend, infer, repeat: its data, its transformer, its density, and the gradients of its estimators."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.stats import bernoulli, chisquare, norm

from models.air import data
from models.air import model as air_model
from models.air import train as air_train
from models.air.model import NOISE, PRESENT, STARTS, WHERE, decode, model
from models.air.nets import Sizes, initial
from models.air.objectives import STRATEGIES, objective
from models.air.train import Setting, trainer
from models.common.spatial_transformer import attend, centers, place

TINY = Sizes(canvas=8, window=3, what=2, hidden=4, lstm=3)
START = STARTS["pyro"]


@pytest.fixture(scope="module")
def canvases() -> tuple[data.Canvases, data.Canvases]:
    return data.split(600, 300)


# --- data


def test_counts_are_uniform_and_boxes_apart_and_full_of_ink(canvases: Any) -> None:
    train = canvases[0]
    assert chisquare(np.bincount(train.counts, minlength=3)).pvalue > 1e-4  # the seed is fixed
    for image, count, boxes, digits in zip(*train, strict=True):
        inside = np.zeros_like(image, dtype=bool)
        for top, bottom, left, right in boxes[:count]:
            assert not inside[top:bottom, left:right].any()
            inside[top:bottom, left:right] = True
            assert 4 <= bottom - top <= 9 and 1 <= right - left <= 9
        assert image[~inside].max(initial=0.0) == 0.0 and image.max() <= 1.0
        assert (image.max() > 0.5) == (count > 0)
        assert (digits >= 0).sum() == count


def test_no_scan_is_both_trained_and_tested_on(canvases: Any) -> None:
    train, test = (set(part.digits.ravel()) - {-1} for part in canvases)
    assert len(train) > 300 and len(test) > 200
    assert not train & test


def test_data_are_those_of_their_seed(canvases: Any) -> None:
    again = data.split(600, 300)
    for one, other in zip(canvases, again, strict=True):
        np.testing.assert_array_equal(one.images, other.images)


def test_on_larger_canvases_digits_are_larger() -> None:
    train, _ = data.split(300, 1, side=50)
    assert train.images.shape == (300, 50, 50)
    boxes = train.boxes[train.counts > 0, 0]
    height = boxes[:, 1] - boxes[:, 0]
    assert height.max() == 18 and 14 <= np.median(height) <= 16  # of 16 pixels, an eighth less or more


# --- the spatial transformer


def gathered(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear sampling at coordinates, in which the edges are -1 and 1; zero beyond: SciPy's."""
    rows, columns = (((at + 1) * len(picture) - 1) / 2 for at in (y, x))
    grid = np.meshgrid(rows, columns, indexing="ij")
    return map_coordinates(picture, grid, order=1, mode="grid-constant", cval=0.0)


@pytest.mark.parametrize("where", [(3.0, 0.0, 0.0), (2.6, 1.3, -0.7), (1.0, 0.1, 0.3), (-1.5, 0.2, 2.0)])
def test_matrices_sample_as_a_gather_does(where: tuple[float, float, float]) -> None:
    random, (scale, x, y) = np.random.default_rng(0), where
    window, image = random.random((10, 10)), random.random((24, 24))
    grid, small = (np.asarray(centers(size), float) for size in (24, 10))
    placed = gathered(window, scale * grid + x, scale * grid + y)
    seen = gathered(image, (small - x) / scale, (small - y) / scale)
    np.testing.assert_allclose(place(window, jnp.array(where), 24), placed, atol=2e-5)
    np.testing.assert_allclose(attend(image, jnp.array(where), 10), seen, atol=2e-5)


def test_what_is_placed_is_seen_again() -> None:
    smooth = np.add.outer(np.arange(10.0), 2 * np.arange(10.0)) / 30
    where = jnp.array([2.0, 0.3, -0.2])
    seen = attend(place(smooth, where, 24), where, 10)
    np.testing.assert_allclose(seen[2:-2, 2:-2], smooth[2:-2, 2:-2], atol=0.02)


# --- the model


def test_the_density_is_that_of_scipy() -> None:
    random = np.random.default_rng(1)
    params = initial(jax.random.key(0), TINY)
    present, wheres = [True, False, True], random.normal([3.0, 0.0, 0.0], [0.2, 1.0, 1.0], (3, 3))
    whats, image = random.normal(size=(3, 2)), random.random((8, 8))
    slots = [str(slot) for slot in range(3)]
    choices = {
        "present": dict(zip(slots, present, strict=True)),
        "where": dict(zip(slots, wheres.astype(np.float32), strict=True)),
        "what": dict(zip(slots, whats.astype(np.float32), strict=True)),
        "image": image.astype(np.float32),
    }
    expected, canvas = 0.0, np.zeros((8, 8))
    for here, prior, where, what in zip(present, PRESENT, wheres, whats, strict=True):
        expected += bernoulli.logpmf(here, prior) + norm.logpdf(what).sum()
        expected += norm.logpdf(where, *map(np.asarray, WHERE)).sum()
        ink, grid = np.asarray(decode(params, jnp.asarray(what, jnp.float32))), np.asarray(centers(8), float)
        canvas += here * gathered(ink, where[0] * grid + where[1], where[0] * grid + where[2])
    expected += norm.logpdf(image, canvas, NOISE).sum()
    found = jax.jit(lambda params: model(params, 8).log_density(choices))(params)
    assert float(found) == pytest.approx(expected, rel=1e-5)


# --- gradients


@pytest.fixture(scope="module")
def by_hand() -> Iterator[Any]:
    """What the benchmark has by hand. Here as there, two slots: a third of the time to compile is saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
        module = importlib.import_module("_air_hand")
        for place in (module, air_model, air_train):
            patch.setattr(place, "PRESENT", PRESENT[:2])
        patch.setattr(module, "SLOTS", 2)
        yield module
    sys.modules.pop("_air_hand")


def without_noise(params: Any) -> Any:
    """Scales of places and codes so small that draws are their locations: only presence is random."""
    where, (first, second) = params["where"], params["encoder"]
    narrow = lambda layer: {**layer, "b": layer["b"].at[len(layer["b"]) // 2 :].add(-30.0)}
    return {**params, "where": narrow(where), "encoder": [first, narrow(second)]}


@pytest.fixture(scope="module")
def problem(by_hand: Any) -> tuple[Any, Any, Any]:
    """Parameters, an image, and the exact gradient: the sum over the four values of presence."""
    params = without_noise(initial(jax.random.key(2), TINY, -1.0))
    image = jnp.asarray(np.random.default_rng(3).random((8, 8)), jnp.float32)
    noise = jnp.zeros((2, 3 + TINY.what))
    exact = jax.jit(jax.grad(lambda params: by_hand.enumerate_(params, image, None, noise)))(params)
    return params, image, exact


def test_enumeration_is_the_sum_by_hand(problem: Any) -> None:
    params, image, exact = problem
    found = objective(STRATEGIES["ENUM"], START).grad(jax.random.key(0), params, image[None])
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3 * np.abs(other).max())


@pytest.mark.parametrize("name", ["MVD", "REINFORCE"])
def test_other_estimators_have_that_mean(problem: Any, name: str) -> None:
    """20,000 draws, along the exact gradient and in each weight of the presence; 5 errors, 6e-7 each."""
    params, image, exact = problem
    estimated = objective(STRATEGIES[name], START)

    def slopes(key: jax.Array) -> Any:
        found = estimated.grad(key, params, image[None])
        along = sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (found, exact)), strict=True))
        return along, found["presence"]

    draws = jax.jit(lambda keys: jax.lax.map(slopes, keys, batch_size=500))(
        jax.random.split(jax.random.key(1), 20_000)
    )
    square = sum(jnp.vdot(x, x) for x in jax.tree.leaves(exact))
    truths = jax.tree.leaves((square, exact["presence"]))
    for drawn, truth in zip(jax.tree.leaves(draws), truths, strict=True):
        drawn, truth = np.asarray(drawn, float), np.asarray(truth, float)
        error = drawn.std(0) / len(drawn) ** 0.5 + 1e-4 * np.abs(truth)
        assert np.all(np.abs(drawn.mean(0) - truth) < 5 * error)
        assert drawn.std(0).max() > 0


def test_a_step_of_training_moves_everything_and_scores(canvases: Any, by_hand: Any) -> None:
    few = tuple(data.Canvases(*(field[:32] for field in part)) for part in canvases)
    run = trainer(STRATEGIES["REINFORCE"], START, few, Setting(1e-3, 0.1, 16, 1), TINY._replace(canvas=24))
    before, after = run(0)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before.params, after.params)
    assert all(0 < x < 3e-3 for x in jax.tree.leaves(moved))
    assert max(jax.tree.leaves(moved["presence"])) < 3e-4  # the slower rate
    assert after.epoch.number == 1 and after.epoch.seconds > 0
    table = np.array(after.epoch.confusion)
    assert table.sum() == 32 and after.epoch.accuracy == pytest.approx(np.trace(table) / 32)
