"""How the noise of each estimator, at a choice of each family, is integrated over exactly.

What is not said here is left to the rules that `ppl.testing` has for every kind of noise.
"""

from __future__ import annotations

import jax
import numpy as np
import scipy.special
import scipy.stats

from ppl.testing.rules import Rule, log_gamma, normal_panels, panels, tanh_sinh, uniform_panels

from .cases import FAMILIES, THETA

TOO_MUCH_NOISE = {
    ("gamma", "measure_valued"),
    ("beta", "measure_valued"),
    ("beta", "rejection_reparam"),
    ("beta", "boundary_corrected"),
    ("beta", "leave_one_out"),
}
"""To be integrated over: see `test_statistics`."""

FIRST_ONLY = {"boundary_corrected"}
"""Estimators that refuse a surrogate, since it may be differentiated more than once."""

ONE_DERIVATIVE = {("gamma", "reparam"), ("beta", "reparam")}
"""Draws that JAX differentiates once."""

ONE_NUMBER = {"normal", "exponential", "gamma"}
"""Continuous families of one number of noise a draw, which can be cut where the value crosses the jump."""
OF_DRAWS = {"reinforce", "baseline", "leave_one_out", "boundary_corrected"}
"""Estimators whose noise is that of draws alone."""

COUPLINGS = {
    # The coupled Maxwell variable has the sign of the normal one.
    "normal": {"normal": normal_panels([0], 12, (-3, 3)), "uniform": tanh_sinh(1 / 6)},
    # One of the trials, picked at random.
    "binomial": {"uniform": Rule(np.array([1, 3, 5]) / 6, np.full(3, 1 / 3))},
}
"""Inside measure-valued derivatives that jump by themselves."""


def is_cut(family: str, estimator: str) -> bool:
    """Whether the integrand may jump: the noise is cut there, or is discrete."""
    return family not in {*ONE_NUMBER, "beta"} or (family in ONE_NUMBER and estimator in OF_DRAWS)


def noise_rules(family: str, estimator: str) -> dict[str, Rule] | None:
    """Rules for one draw of a family, at `THETA`, where the default ones are not exact or too long."""
    if estimator == "measure_valued":
        return COUPLINGS.get(family)
    if estimator == "arm":  # linear in the uniform number
        return {"uniform": Rule(*panels([0.0, 1.0], 2))}
    if estimator in ("rebar", "relax"):  # rational in the uniform numbers
        return {"uniform": Rule(*panels([0.0, 1.0], 6)) if family == "flip" else tanh_sinh(1 / 4)}
    if family in ONE_NUMBER and estimator in OF_DRAWS:
        with jax.enable_x64(True):
            return _cut(family, FAMILIES[family].jump, two=estimator == "leave_one_out")
    return None


def _cut(family: str, jump: float, two: bool) -> dict[str, Rule]:
    """Panels that end where the value crosses the jump; fewer nodes where two draws meet."""
    law = FAMILIES[family].measure(THETA).numpyro
    options = (16, (-4, 0, 4)) if two else ()
    if family == "normal":
        return {"normal": normal_panels([(jump - law.loc) / law.scale], *options)}
    if family == "exponential":
        return {"uniform": uniform_panels([np.exp(-law.rate * jump)])}
    below = scipy.special.gammainc(law.concentration, law.rate * jump)
    return {"log_gamma": log_gamma(normal_panels([scipy.stats.norm.ppf(below)], *options))}
