"""What is too large to integrate: means of 100,000 draws against the truth, at five standard errors.

Each key averages 100 lanes, and 1,000 keys give the standard error; a comparison of a right estimator fails
with probability 6.8e-7 (Student's t of 999 degrees of freedom). There are fewer than 150 comparisons of
coordinates here, with fixed keys, so the whole file raises a false alarm with probability 1e-4 once, when
it is written, and never again.
"""

from __future__ import annotations

import pytest

from .cases import FAMILIES, drawer, integrand, jump_of
from .flows import FLOWS
from .laws import check_statistically
from .noise_rules import FIRST_ONLY, ONE_DERIVATIVE

PLACES = [
    ("normal", "baseline", "straight"),
    ("normal", "baseline", "cond_under_vmap"),
    ("normal", "measure_valued", "straight"),
    ("normal", "measure_valued", "scan"),
    ("normal", "measure_valued", "cond_under_vmap"),
    ("normal", "reparam", "scan_under_vmap"),
    ("normal", "reparam", "vmap_under_scan"),
    ("exponential", "measure_valued", "array"),
    ("gamma", "measure_valued", "straight"),
    ("gamma", "reparam", "array"),
    ("beta", "reinforce", "straight"),
    ("beta", "measure_valued", "straight"),
    ("beta", "rejection_reparam", "straight"),
    ("beta", "boundary_corrected", "straight"),
    ("beta", "leave_one_out", "straight"),
]
"""Jumps of several continuous numbers, and supports that are too large; the rest is in `test_gradients`."""


@pytest.mark.parametrize(("family", "estimator", "flow"), [pytest.param(*p, id="-".join(p)) for p in PLACES])
def test_mean(family: str, estimator: str, flow: str) -> None:
    entry = FAMILIES[family]
    chosen = entry.estimators[estimator]
    f = integrand(jump_of(entry, chosen))
    check_statistically(
        FLOWS[flow].program(drawer(entry, chosen), f), FLOWS[flow].truth(entry.law, f),
        second=(family, estimator) not in ONE_DERIVATIVE, surrogate=estimator not in FIRST_ONLY,
    )  # fmt: skip
