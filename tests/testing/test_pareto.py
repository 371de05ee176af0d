"""Tails against closed forms and ArviZ. Means over 100 fixed samples: their standard error is below 0.012."""

import math

import numpy as np
import pytest
from scipy import stats

from ppl.testing.pareto import generalized_pareto, smoothed

SHAPES = [-0.2, 0.0, 0.3, 0.5, 0.7, 1.0]


def pareto_logs(k, size, seed):
    return np.log(stats.genpareto.rvs(k, size=size, random_state=seed))


@pytest.mark.parametrize("k", SHAPES)
def test_the_shape_of_pareto_tails(k):
    found = np.mean([smoothed(pareto_logs(k, 10_000, seed)).khat for seed in range(100)])
    assert abs(found - k) < 0.05
    # With a thousand draws the prior at one half, of weight 10 against 94 draws, is visible too.
    few = np.mean([smoothed(pareto_logs(k, 1000, seed)).khat for seed in range(100)])
    assert abs(few - (94 * k + 5) / 104) < 0.1


@pytest.mark.parametrize("k", SHAPES)
def test_the_scale_of_pareto_tails(k):
    found = [
        generalized_pareto(np.sort(stats.genpareto.rvs(k, scale=3.0, size=2000, random_state=s)))
        for s in range(20)
    ]
    assert np.mean([s for _, s in found]) == pytest.approx(3.0, rel=0.05)


AT = np.arange(2000)
# Shape, and four smoothed weights (largest, 10th, 100th, least), by `array_stats.psislw` of arviz-stats
# 0.8.0.
ARVIZ = {
    "mixed": (
        3 * np.sin(AT * 1.234567) + 0.5 * np.log1p(AT % 97),
        -0.56270312217258,
        [-5.79099511802695, -5.817740392483462, -6.106836173295666, -14.04299342117621],
    ),
    "heavy": (
        -0.8 * np.log(((AT * 617) % 2000 + 0.5) / 2000),
        0.7685573099148707,
        [-2.522245445492317, -4.791343250660515, -6.632063256472714, -9.031294335279851],
    ),
    "light": (
        -0.5 * (np.sin(AT) + np.cos(1.7 * AT)) ** 2,
        -1.7277397414176912,
        [-7.227515919464426, -7.227515919464426, -7.228324086223058, -9.218892763373958],
    ),
}


@pytest.mark.parametrize("name", ARVIZ)
def test_shape_and_weights_are_those_of_arviz(name):
    logs, khat, expected = ARVIZ[name]
    found = smoothed(logs)
    order = np.argsort(logs)
    assert found.khat == pytest.approx(khat, abs=1e-9)
    assert found.log_weights[order[[-1, -10, -100, 0]]] == pytest.approx(expected, abs=1e-9)
    assert np.exp(found.log_weights).sum() == pytest.approx(1.0)


def test_a_constant_factor_changes_only_the_mean():
    logs = pareto_logs(0.4, 2000, 1)
    here, there = smoothed(logs), smoothed(logs + 1234.0)
    assert there.khat == pytest.approx(here.khat, abs=1e-9)
    assert there.log_mean - here.log_mean == pytest.approx(1234.0)
    assert there.log_weights == pytest.approx(here.log_weights, abs=1e-9)


def test_smoothing_keeps_the_order_and_lowers_the_error():
    """Of the mean of a Pareto law with shape 0.6, whose variance is infinite: `1 / (1 - k) = 2.5`."""
    errors = []
    for seed in range(200):
        logs = pareto_logs(0.6, 2000, seed)
        found = smoothed(logs)
        assert (np.diff(found.log_weights[np.argsort(logs)]) >= 0).all()
        raw = np.logaddexp.reduce(logs) - math.log(2000)
        errors.append([math.exp(found.log_mean) - 2.5, math.exp(raw) - 2.5])
    smooth, raw = np.sqrt(np.mean(np.square(errors), 0))
    assert smooth < 0.8 * raw


@pytest.mark.parametrize(("size", "threshold"), [(100, 0.5), (1000, 2 / 3), (2155, 0.7), (10_000, 0.7)])
def test_the_threshold(size, threshold):
    found = smoothed(np.log(np.arange(1, size + 1)))
    assert found.threshold == pytest.approx(threshold, abs=1e-4)
    assert found.reliable


@pytest.mark.parametrize(
    ("logs", "status", "reliable"),
    [
        (np.zeros(1000), "constant weights", True),
        (np.zeros(10), "constant weights", True),
        (np.arange(50.0), "too few draws", None),
        (np.full(1000, -np.inf), "no weight", False),
        (np.where(np.arange(1000) == 7, np.nan, 0.0), "invalid weights", False),
        (np.where(np.arange(1000) == 7, np.inf, 0.0), "invalid weights", False),
        (np.where(np.arange(1000) < 500, 0.0, -1.0), "tied weights", None),
        (np.where(np.arange(1000) == 7, 0.0, -np.inf), "one draw has all the weight", False),
        (np.where(np.arange(1000) == 7, 1e5, np.arange(1000)), "one draw has all the weight", False),
    ],
)  # fmt: skip
def test_what_has_no_tail_is_named(logs, status, reliable):
    found = smoothed(logs)
    assert (found.status, found.reliable) == (status, reliable)
    assert not math.isfinite(found.khat)


def test_weights_of_zero_count_as_draws():
    logs = pareto_logs(0.3, 4000, 3)
    some = np.concatenate([logs, np.full(4000, -np.inf)])
    found = smoothed(some)
    assert found.status == "fitted" and found.zeros == 0.5
    assert math.exp(found.log_mean) == pytest.approx(math.exp(smoothed(logs).log_mean) / 2, rel=0.02)


def test_rounding_is_no_tail():
    noise = 1e-4 * np.sin(np.arange(1000.0))
    assert smoothed(noise, rounding=1e-3).status == "constant weights"
    assert smoothed(noise).status == "fitted"


def test_weights_are_a_vector():
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        smoothed(np.zeros((2, 3)))
