"""Bands against enumeration, and against simulation within 5 standard errors."""

import itertools
import math

import numpy as np
import pytest

from ppl.testing.ecdf_bands import _limits, _tables, bands, below_points, leaving, p_value


@pytest.mark.parametrize("level", [0.02, 0.2, 0.5, 0.9])
@pytest.mark.parametrize(("replicates", "draws"), [(5, 3), (7, 2), (3, 4)])
def test_the_probability_to_leave_is_that_of_enumeration(replicates, draws, level):
    below, above = _tables(replicates, draws)
    lower, upper = _limits(below, above, level)
    every = itertools.product(range(draws + 1), repeat=replicates)
    counts = np.stack([below_points(np.asarray(ranks), draws) for ranks in every])
    outside = ((counts < lower) | (counts > upper)).any(1).mean()
    assert leaving(below, above, level) == pytest.approx(outside, abs=1e-12)


@pytest.mark.parametrize(("replicates", "draws", "rate"), [(100, 9, 0.05), (500, 99, 0.01), (1000, 19, 0.2)])
def test_bands_are_as_narrow_as_their_rate_allows(replicates, draws, rate):
    found = bands(replicates, draws, rate)
    assert 1 - rate <= found.coverage < 1 - 0.8 * rate
    assert (found.lower <= replicates * found.points).all()
    assert (replicates * found.points <= found.upper).all()


def test_uniform_ranks_leave_the_bands_at_the_stated_rate():
    found, random = bands(200, 9, 0.1), np.random.default_rng(0)
    counts = np.stack([below_points(random.integers(0, 10, 200), 9) for _ in range(20_000)])
    outside = ((counts < found.lower) | (counts > found.upper)).any(1).mean()
    rate = 1 - found.coverage
    assert abs(outside - rate) < 5 * math.sqrt(rate * (1 - rate) / 20_000)


def test_p_values_and_bands_are_one_test():
    random = np.random.default_rng(1)
    found, answers = bands(150, 19, 0.3), []
    for _ in range(200):
        ranks = random.integers(0, 20, 150)
        counts = below_points(ranks, 19)
        outside = bool(((counts < found.lower) | (counts > found.upper)).any())
        assert outside == (p_value(ranks, 19) <= 0.3)
        answers.append(outside)
    assert 20 < sum(answers) < 120


@pytest.mark.parametrize(("replicates", "draws"), [(5, 3), (7, 2)])
def test_p_values_are_exact(replicates, draws):
    """Over all ranks there are, `P(p <= t) = t` at each value `t` that is attained."""
    every = itertools.product(range(draws + 1), repeat=replicates)
    found = np.asarray([p_value(np.asarray(ranks), draws) for ranks in every])
    for value in np.unique(found.round(12)):
        assert (found <= value + 1e-11).mean() == pytest.approx(value, abs=1e-11)


def test_large_samples_keep_their_precision():
    found = bands(20_000, 99, 1e-4)
    assert found.coverage == pytest.approx(1 - 1e-4, abs=2e-6)
    assert p_value(np.zeros(1000, int), 99) < 1e-10
