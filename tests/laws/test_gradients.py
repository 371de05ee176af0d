"""Every family and estimator in every control flow: value, first and second derivative, exactly.

The tolerance is 1e-8 of a number that no randomness enters, so there are no false alarms.
"""

from __future__ import annotations

import pytest
from .cases import FAMILIES, drawer, integrand, jump_of
from .flows import FLOWS
from .laws import check_exactly

EVERYWHERE = [
    ("flip", "enumerate"),
    ("flip", "measure_valued"),
    ("flip", "baseline"),
    ("categorical", "enumerate"),
    ("categorical", "measure_valued"),
    ("binomial", "reinforce"),
    ("normal", "reparam"),
]
"""Family and estimator, through all control flows; small supports, so that all noise can be integrated."""


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("family", "estimator"), EVERYWHERE, ids="-".join)
def test_control_flow(family: str, estimator: str, flow: str) -> None:
    chosen = FAMILIES[family].estimators[estimator]
    draw, f = drawer(FAMILIES[family], chosen), integrand(jump_of(FAMILIES[family], chosen))
    program, truth = FLOWS[flow].program(draw, f), FLOWS[flow].truth(FAMILIES[family].law, f)
    single = chosen.joint and flow in ("straight", "jit_twice", "checkpoint", "custom_jvp", "custom_vjp", "inner_expect")
    check_exactly(program, truth, second=flow != "custom_vjp", draws=0 if single else FLOWS[flow].choices)
