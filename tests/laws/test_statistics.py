"""What is too large to integrate: means of 100,000 draws against the truth, at five standard errors.

Each key averages 100 lanes, and 1,000 keys give the standard error; a comparison of a right estimator fails
with probability 6.8e-7 (Student's t of 999 degrees of freedom). There are fewer than 500 comparisons of
coordinates here, with fixed keys, so the whole file raises a false alarm with probability 4e-4 once, when
it is written, and never again.
"""

from __future__ import annotations

import pytest

from .cases import FAMILIES, drawer, integrand, jump_of
from .flows import FLOWS
from .laws import check_statistically

JUMPS = ["straight", "vmap_interacting", "scan", "cond_under_vmap", "inner_expect"]
PLACES = [
    *(("normal", estimator, flow) for estimator in ("baseline", "measure_valued") for flow in JUMPS),
    ("normal", "measure_valued", "switch"),
    ("normal", "measure_valued", "array"),
    ("normal", "reparam", "scan_under_vmap"),
    ("normal", "reparam", "vmap_under_scan"),
    ("exponential", "measure_valued", "straight"),
    ("exponential", "measure_valued", "scan"),
    ("gamma", "measure_valued", "straight"),
    ("gamma", "reparam", "scan"),
    ("beta", "reinforce", "straight"),
    ("poisson", "measure_valued", "scan_under_vmap"),
    ("poisson", "measure_valued", "vmap_under_scan"),
    ("poisson", "baseline", "scan"),
    ("geometric", "measure_valued", "array"),
]


@pytest.mark.parametrize(("family", "estimator", "flow"), [pytest.param(*p, id="-".join(p)) for p in PLACES])
def test_mean(family: str, estimator: str, flow: str) -> None:
    entry = FAMILIES[family]
    chosen = entry.estimators[estimator]
    f = integrand(jump_of(entry, chosen))
    implicit = family in ("gamma", "beta") and chosen.pathwise
    check_statistically(
        FLOWS[flow].program(drawer(entry, chosen), f), FLOWS[flow].truth(entry.law, f), second=not implicit
    )
